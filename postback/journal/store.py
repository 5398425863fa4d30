"""The journal's database: opened, written, searched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from postback.errors import NoJournal
from postback.journal.query import Query
from postback.journal.records import Action, Entry, Gap, Record, cut, key_hash

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql, sqlite

    from postback.journal import schema
    from postback.journal.migrations import upgrade
except ImportError as missing:
    raise NoJournal(f"the journal needs {missing.name}: install Postback with the extra [journal]") from None

__all__ = ["WRITTEN_S", "Store"]

#: Seconds of silence after which nobody writes the journal. A process is heard every 5 s.
WRITTEN_S: Final = 60.0
#: Events in one SELECT, by their ids.
PART: Final = 500
#: Most rows that one step of :meth:`Store.prune` removes from a table.
PRUNED: Final = 2000
#: Seconds for which SQLite waits for another writer.
BUSY_S: Final = 5.0
_FIELDS: Final = tuple(column.name for column in schema.entries.columns)
_E: Final = schema.entries.c


class Store:
    """One database. Any thread."""

    def __init__(self, engine: sa.Engine, shown: str) -> None:
        """Use an open database; ``shown`` is its URL without the password."""
        self._engine, self._shown = engine, shown
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    @classmethod
    def writing(cls, url: str) -> Self:
        """Open the database for writing: it is made, or brought to the newest form.

        Raises:
            ConfigurationError: A newer Postback has written it.
            sqlalchemy.exc.SQLAlchemyError: It is away, or cannot be written.
        """
        engine = _engine(url)
        upgrade(engine)
        return cls(engine, _shown(url))

    @classmethod
    def reading(cls, url: str) -> Self:
        """Open the database for reading. Nothing is made or changed.

        Raises:
            NoJournal: There is none, or it cannot be read; the sentence says what to do.
        """
        parsed, shown = sa.make_url(url), _shown(url)
        start = "start `python -m workers.journal`, or set POSTBACK_JOURNAL_URL to where it writes"
        if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
            raise NoJournal(f"there is no journal at {shown}: {start}")
        engine = _engine(url, read_only=True)
        try:
            with engine.connect() as connection:
                names = sa.inspect(connection).get_table_names()
                if schema.VERSIONS not in names:
                    raise NoJournal(f"{shown} holds no journal: {start}")
                version = connection.execute(sa.text(f"SELECT version_num FROM {schema.VERSIONS}")).scalar()
        except sa.exc.SQLAlchemyError as error:
            engine.dispose()
            raise NoJournal(f"the journal at {shown} cannot be read ({type(error).__name__}): is it running?") from None
        if version != schema.REVISION:
            raise NoJournal(f"the journal at {shown} has the form {version}, and this Postback reads {schema.REVISION}")
        return cls(engine, shown)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    # Writing

    def add(self, journal_id: str, provider: str, records: Sequence[Record], gap: Gap | None, now_ms: int) -> None:
        """Write records, what is missing, and that somebody writes, in one transaction.

        A record that is there already is left as it is.

        Args:
            journal_id: The Redis they are from.
            provider: The stream they are from.
            records: In any order.
            gap: Records that were lost.
            now_ms: Redis' clock.

        Raises:
            sqlalchemy.exc.DataError, IntegrityError: The database refuses a record; none is
                written.
            sqlalchemy.exc.SQLAlchemyError: It is away; none is written.
        """
        rows = [[getattr(entry, name) for name in _FIELDS] for record in records for entry in record.entries]
        people = [
            {"grant": entry.grant, "place": entry.place, "number": number, "at_ms": entry.at_ms, "person": person}
            for record in records
            for entry in record.entries
            for number, person in enumerate(entry.also)
        ]
        actions = [
            {name: getattr(record.action, name) for name in Action.__dataclass_fields__}
            for record in records
            if record.action
        ]
        with self._engine.begin() as connection:
            self._add(connection, schema.entries, [dict(zip(_FIELDS, row, strict=True)) for row in rows])
            self._add(connection, schema.people, people)
            self._add(connection, schema.actions, actions)
            if gap is not None:
                values = {"since_ms": gap.since_ms, "until_ms": gap.until_ms, "lost": gap.lost}
                self._replace(connection, schema.gaps, {"journal": journal_id, "provider": provider, **values})
            self._replace(
                connection, schema.writers, {"journal": journal_id, "provider": provider, "at_ms": int(now_ms)}
            )

    def _add(self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            connection.execute(self._insert(table).on_conflict_do_nothing(), rows)

    def _replace(self, connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
        names = [column.name for column in table.primary_key.columns]
        statement = self._insert(table).values(row)
        others = {name: statement.excluded[name] for name in row if name not in names}
        connection.execute(statement.on_conflict_do_update(index_elements=names, set_=others))

    def prune(self, before_ms: int) -> int:
        """Remove some rows from before that time. Returns how many; 0: there are no more."""
        removed = 0
        with self._engine.begin() as connection:
            for table, column in (
                (schema.entries, schema.entries.c.at_ms),
                (schema.people, schema.people.c.at_ms),
                (schema.actions, schema.actions.c.at_ms),
                (schema.gaps, schema.gaps.c.until_ms),
            ):
                old = sa.select(column).where(column < before_ms).order_by(column).limit(1).offset(PRUNED - 1)
                last = connection.execute(old).scalar()
                end = column < before_ms if last is None else column <= last
                removed += connection.execute(sa.delete(table).where(end)).rowcount
        return removed

    # Reading

    def check_written(self, journal_id: str, now_ms: float) -> None:
        """Refuse a database in which nobody writes for this Redis.

        Raises:
            NoJournal: The sentence says what to do.
        """
        last = sa.select(sa.func.max(schema.writers.c.at_ms)).where(schema.writers.c.journal == journal_id)
        (at_ms,) = self._rows(last)[0]
        if at_ms is None:
            raise NoJournal(f"the journal at {self._shown} is not that of this Redis: check POSTBACK_JOURNAL_URL")
        if now_ms - at_ms > WRITTEN_S * 1000:
            minutes = (now_ms - at_ms) / 60_000
            raise NoJournal(
                f"the journal at {self._shown} was last written {minutes:,.0f} min ago: start `python -m workers.journal`"
            )

    def entries(self, query: Query, *, ids: Collection[str] = ()) -> list[Entry]:
        """All entries of the events that match, or have one of ``ids``.

        Those of one event are in the order of their times; the latest event is the first.
        """
        wanted = dict.fromkeys([*self._matching(query), *sorted(set(ids) - set(query.ids))])
        rows = [row for part in _parts([name for name in wanted if name]) for row in self._rows(self._of(part))]
        also = self._also(rows)
        entries = [_entry(row, also) for row in rows]
        by_event: dict[object, list[Entry]] = {}
        for entry in entries:
            by_event.setdefault(entry.id, []).append(entry)
        for of_event in by_event.values():
            of_event.sort(key=lambda entry: (entry.at_ms, entry.ms or 0.0))
        latest_first = sorted(by_event.values(), key=lambda of_event: -of_event[-1].at_ms)
        return [entry for of_event in latest_first for entry in of_event]

    def _of(self, ids: Sequence[str]) -> sa.Select[Any]:
        return sa.select(schema.entries).where(_E.id.in_(ids))

    def _matching(self, query: Query) -> list[str]:
        """The ids of the events that match, the latest first, at most as many as the limit."""
        conditions: list[sa.ColumnElement[bool]] = []
        if query.ids:
            conditions.append(_E.id.in_([cut(name) for name in query.ids]))
        if query.key is not None:
            conditions += [_E.key_hash == key_hash(query.key), _E.key_hash != ""]
        if query.user is not None:
            user, also = cut(query.user), schema.people.c
            others = sa.select(_E.id).join(schema.people, (also.grant == _E.grant) & (also.place == _E.place))
            of_others = [row[0] for row in self._rows(others.where(also.person == user))]
            conditions.append(sa.or_(_E.user == user, _E.id.in_(of_others)) if of_others else _E.user == user)
        if query.account is not None:
            conditions.append(_E.queue == f"{query.provider}.{query.account}")
        elif query.provider is not None:
            conditions += [_E.queue >= f"{query.provider}.", _E.queue < f"{query.provider}/"]
        if query.task is not None:
            conditions.append(_E.task == query.task)
        if query.outcome is not None:
            conditions.append(_E.end == query.outcome)
        if query.since_ms is not None:
            conditions.append(_E.at_ms >= int(query.since_ms))
        found: dict[str, None] = {}
        step, passed = max(100, 2 * (query.limit or 5000)), 0
        statement = sa.select(_E.id).where(*conditions).order_by(_E.at_ms.desc())
        while True:
            rows = self._rows(statement.limit(step).offset(passed))
            found.update(dict.fromkeys(row[0] for row in rows))
            passed += len(rows)
            if len(rows) < step or (query.limit is not None and len(found) >= query.limit):
                return list(found)[: query.limit]

    def _also(self, rows: Sequence[Any]) -> dict[tuple[str, int], tuple[str, ...]]:
        people: dict[tuple[str, int], tuple[str, ...]] = {}
        table = schema.people.c
        for grants in _parts(sorted({row.grant for row in rows})):
            found = sa.select(schema.people).where(table.grant.in_(grants)).order_by(table.number)
            for row in self._rows(found):
                people[row.grant, row.place] = (*people.get((row.grant, row.place), ()), row.person)
        return people

    def actions(self, since_ms: float, places: Collection[str], limit: int) -> list[Action]:
        """What operators did at some places since then, the latest first."""
        table = schema.actions.c
        found = sa.select(schema.actions).where(table.at_ms >= int(since_ms), table.place.in_(list(places)))
        return [Action(**row._mapping) for row in self._rows(found.order_by(table.at_ms.desc()).limit(limit))]

    def gaps(self, journal_id: str, since_ms: float) -> list[Gap]:
        """What is missing of a Redis since then, the oldest first."""
        table = schema.gaps.c
        found = sa.select(schema.gaps).where(table.journal == journal_id, table.until_ms >= int(since_ms))
        rows = self._rows(found.order_by(table.since_ms))
        return [Gap(row.provider, row.since_ms, row.until_ms, row.lost) for row in rows]

    def _rows(self, statement: Any) -> Sequence[Any]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(statement).all()
        except sa.exc.SQLAlchemyError as error:
            raise NoJournal(f"the journal at {self._shown} cannot be read ({type(error).__name__})") from None


def _entry(row: Any, also: dict[tuple[str, int], tuple[str, ...]]) -> Entry:
    return Entry(**row._mapping, also=also.get((row.grant, row.place), ()))


def _shown(url: str) -> str:
    """A database's URL without its password."""
    return sa.make_url(url).render_as_string(hide_password=True)


def _parts(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[first : first + PART] for first in range(0, len(names), PART))


def _engine(url: str, *, read_only: bool = False) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    path = Path(parsed.database or "").absolute()
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    mode = "ro" if read_only else "rwc"
    engine = sa.create_engine(f"sqlite:///file:{path}?mode={mode}&uri=true", connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine
