"""The journal's database as the rest of Postback sees it.

Nothing here imports a database's package before a store is opened: without the extra ``[journal]``
everything else works.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from postback.errors import ConfigurationError, NoJournal
from postback.journal.location import VARIABLE, shown
from postback.journal.query import Query
from postback.journal.records import Action, Entry, Gap, Record
from postback.journal.refusals import DatabaseAway

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["WRITTEN_S", "Store"]

#: Seconds after which a journal that nobody has written counts as abandoned. Its process writes at
#: least every five.
WRITTEN_S: Final = 60.0

_Result = TypeVar("_Result")


class Store:
    """The database. It is for one thread."""

    def __init__(self, url: str, engine: Engine) -> None:
        """Use :meth:`reading` or :meth:`writing`."""
        self._url, self._engine = url, engine

    @classmethod
    def reading(cls, url: str) -> Self:
        """Open a journal to read it. Nothing is created or changed.

        Args:
            url: From ``postback.journal.location.journal_url``.

        Raises:
            NoJournal: It is not there, cannot be reached, has another schema, or needs a package.
        """
        try:
            from postback.journal.database import open_reading

            return cls(url, open_reading(url))
        except ModuleNotFoundError as error:
            raise NoJournal(_needs(error)) from error

    @classmethod
    def writing(cls, url: str) -> Self:
        """Open a journal to write it. It is made, or brought up to date, where needed.

        Raises:
            ConfigurationError: It cannot be written as long as nobody changes something.
            DatabaseAway: It cannot be written now.
        """
        try:
            from postback.journal.database import open_writing

            return cls(url, open_writing(url))
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"{VARIABLE}: {_needs(error)}") from error

    def check_written(self, journal_id: str, now_ms: float) -> None:
        """Make sure that somebody moves the records of a Redis into this database.

        Args:
            journal_id: Field ``id`` of the hash ``keys.JOURNAL``.
            now_ms: By Redis' clock.

        Raises:
            NoJournal: Nobody has done so in the last :data:`WRITTEN_S`.
        """
        from postback.journal.search import last_written_ms

        at_ms = self._read(lambda connection: last_written_ms(connection, journal_id))
        if at_ms is None:
            raise NoJournal(
                f"nobody has written the journal at {shown(self._url)} for this Redis: "
                f"is {VARIABLE} the one of its `python -m workers.journal`?"
            )
        if now_ms - at_ms > WRITTEN_S * 1000:
            raise NoJournal(
                f"the journal at {shown(self._url)} was last written {(now_ms - at_ms) / 1000:,.0f} s ago: "
                "is `python -m workers.journal` running?"
            )

    def entries(self, query: Query, *, ids: Collection[str] = ()) -> list[Entry]:
        """All entries of events.

        Args:
            query: Which events. Its ``outcome`` is compared with ``Entry.end``: states of events
                that have not ended match nothing. Its ``limit`` counts events: those with the
                latest entries that match.
            ids: Further events, beside those of the query and its limit.

        Returns:
            Entries of one event side by side, in order of time; the event with the latest first.

        Raises:
            NoJournal: The database cannot be read.
        """
        from postback.journal.search import entries_of

        return self._read(lambda connection: entries_of(connection, query, ids))

    def actions(
        self, since_ms: float | None = None, places: Collection[str] | None = None, limit: int | None = None
    ) -> list[Action]:
        """What operators did, the latest first.

        Args:
            since_ms: None: ever.
            places: Queues and providers; None: all.
            limit: At most so many; None: all.

        Raises:
            NoJournal: The database cannot be read.
        """
        from postback.journal.search import actions_since

        return self._read(lambda connection: actions_since(connection, since_ms, places, limit))

    def gaps(self, journal_id: str, since_ms: float | None = None) -> list[Gap]:
        """Records that are missing, the oldest first.

        Args:
            journal_id: Of which Redis.
            since_ms: Gaps that ended before are left out; None: none is.

        Raises:
            NoJournal: The database cannot be read.
        """
        from postback.journal.search import gaps_since

        return self._read(lambda connection: gaps_since(connection, journal_id, since_ms))

    def add(self, journal_id: str, provider: str, records: Sequence[Record], gap: Gap | None, now_ms: float) -> None:
        """Write records, in one transaction. A record that is there already stays as it is.

        Args:
            journal_id: From which Redis.
            provider: Whose.
            records: May be empty: then it only says that somebody writes.
            gap: What is missing. The same gap with a later end and a higher count replaces it.
            now_ms: By Redis' clock.

        Raises:
            RecordsRefused: The database does not take one of them; none was written.
            DatabaseAway: It cannot be written now.
        """
        from postback.journal.rows import add

        self._write(lambda connection: add(connection, journal_id, provider, records, gap, now_ms))

    def prune(self, before_ms: float) -> int:
        """Remove what is older, a small step in one transaction.

        Returns:
            How many rows it removed; 0: nothing older is left.

        Raises:
            DatabaseAway: It cannot be written now.
        """
        from postback.journal.rows import prune

        return self._write(lambda connection: prune(connection, before_ms))

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _read(self, look: Callable[[Connection], _Result]) -> _Result:
        from postback.journal.database import sentences

        try:
            with sentences(self._url), self._engine.connect() as connection:
                return look(connection)
        except DatabaseAway as away:
            raise NoJournal(str(away)) from away

    def _write(self, change: Callable[[Connection], _Result]) -> _Result:
        from postback.journal.database import sentences

        with sentences(self._url), self._engine.begin() as connection:
            return change(connection)


def _needs(error: ModuleNotFoundError) -> str:
    return f"the journal needs the package {error.name}: install Postback with its extra [journal]"
