"""The search for events: in Redis first, then in the journal's streams, then in its database.

The order matters. An event that ends meanwhile is in the journal when that is read; a record that
is moved meanwhile is in the database when that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Final, Protocol

import redis

from postback.errors import NoJournal, UnknownAccount
from postback.journal.life import LIVE, EventRecord, Found
from postback.journal.location import journal_url
from postback.journal.query import Query
from postback.journal.records import Action, Entry, Gap
from postback.journal.store import Store
from postback.journal.traces import Trace, merge
from postback.operations import places, streams
from postback.operations.search import Latest, Wanted
from postback.operations.sites import Site
from postback.operations.targets import known_accounts
from postback.wire import keys
from postback.wire.time import redis_now_ms

__all__ = ["Journal", "actions", "find", "journal_of"]

#: Walks through Redis, the first one included, after an event that is on its way.
PASSES: Final = 3

#: Called with a place and how many of its entries were looked at.
Progress = Callable[[str, int], object]


class Journal(Protocol):
    """The journal's database, as far as a search needs it."""

    def check_written(self, journal_id: str, now_ms: float) -> None:
        """Raise NoJournal unless somebody writes it for this Redis."""

    def entries(self, query: Query) -> list[Entry]:
        """All entries of the events that a query asks for, the latest events first."""

    def actions(self, since_ms: float | None = None) -> list[Action]:
        """What operators did, the latest first."""

    def gaps(self, journal_id: str, since_ms: float) -> list[Gap]:
        """Which records of a Redis are missing."""


@contextmanager
def journal_of(environ: Mapping[str, str]) -> Iterator[Journal]:
    """The journal's database that the environment names. Only this needs the extra ``[journal]``.

    Raises:
        ConfigurationError: Its URL is wrong.
        NoJournal: It cannot be read.
    """
    with closing(Store.reading(journal_url(environ))) as journal:
        yield journal


def find(
    sites: Sequence[Site],
    query: Query,
    journal: Journal | None = None,
    *,
    progress: Progress = lambda place, count: None,
) -> Found:
    """Find events, the latest first.

    Args:
        sites: The Redis servers of the providers that the query asks for.
        query: Which events. Ids are not subject to its limit.
        journal: Its database; None: search Redis alone.
        progress: Called after each part of a place.

    Raises:
        NoJournal: Nobody writes the journal of one of these Redis servers, or the database cannot
            be read.
        UnknownAccount: Nothing was found, and Redis knows no such account.
        RedisAway: One of them cannot be asked.
    """
    search = _Search(sites, replace(query, limit=None) if query.ids else query, journal, progress)
    found = search.run()
    if not found and query.provider is not None and query.account is not None:
        _check_account(sites, query.provider, query.account)
    return found


def actions(
    sites: Sequence[Site], journal: Journal | None, place: str = "", since_ms: float | None = None
) -> tuple[list[Action], list[Gap]]:
    """What operators did, the latest first; and gaps of the journal since then.

    Args:
        sites: The Redis servers of the providers that are asked for.
        journal: Its database; None: look in Redis alone.
        place: ``tgtrack.main``, with what was done to all of the provider; or ``tgtrack``; empty:
            everywhere.
        since_ms: None: ever.

    Raises:
        NoJournal: Nobody writes the journal of one of these Redis servers, or the database cannot
            be read.
        RedisAway: One of them cannot be asked.
    """
    gaps = list(_gaps(sites, journal, since_ms))
    done: dict[str, Action] = {}
    for site in sites:
        with site.asked() as client:
            for name in site.providers:
                done.update((action.grant, action) for action in streams.actions(client, name))
    if journal is not None:
        done.update((action.grant, action) for action in journal.actions(since_ms))
    provider = place.partition(".")[0]
    chosen = [
        action
        for action in done.values()
        if action.at_ms >= (since_ms or 0)
        and (not place or action.place in (place, provider) or action.place.startswith(f"{place}."))
    ]
    return sorted(chosen, key=lambda action: action.at_ms, reverse=True), gaps


def _gaps(sites: Sequence[Site], journal: Journal | None, since_ms: float | None) -> Iterator[Gap]:
    """Gaps of the journal, whose database must belong to these Redis servers."""
    if journal is None:
        return
    for site in sites:
        with site.asked() as client:
            journal_id: Any = client.hget(keys.JOURNAL, "id")
            now_ms = redis_now_ms(client)
            noted = [gap for name in site.providers if (gap := streams.gap(client, name)) is not None]
        if journal_id is None:
            raise NoJournal(
                f"no journal process has ever run on Redis at {site.broker.shown}: start `python -m workers.journal`, "
                "or look in Redis alone (--live; in Python live=True)"
            )
        journal.check_written(journal_id.decode(), now_ms)
        yield from noted
        yield from journal.gaps(journal_id.decode(), since_ms or 0)


def _check_account(sites: Sequence[Site], provider: str, account: str) -> None:
    """Refuse a name that no account has: "nothing" would be a wrong answer to a mistyped one."""
    for site in sites:
        with site.asked() as client:
            queues = known_accounts(client, [provider])
        if queues and keys.queue(provider, account) not in queues:
            raise UnknownAccount(provider, account, [queue.partition(".")[2] for queue in queues])


class _Search:
    """One search.

    Args:
        sites: The Redis servers.
        query: Which events.
        journal: Its database; None: Redis alone.
        progress: Called after each part of a place.
    """

    def __init__(self, sites: Sequence[Site], query: Query, journal: Journal | None, progress: Progress) -> None:
        self._sites = sites
        self._query = query
        # One more tells whether there are more.
        self._most = None if query.limit is None else query.limit + 1
        self._journal = journal
        self._progress = progress
        self._traces: dict[str, Trace] = {}

    def run(self) -> Found:
        """Look everywhere, and again for what is on its way."""
        gaps, query = list(_gaps(self._sites, self._journal, self._query.since_ms)), self._query
        for again in range(PASSES):
            met = self._walk(query)
            self._read(query, met)
            lost = {trace.id for trace in self._traces.values() if trace.is_lost}
            absent = self._query.ids - self._traces.keys()
            nothing = self._query.names_events and not self._traces
            if not lost and (again or not (absent or nothing)):
                break
            query = self._query if nothing else Query(ids=frozenset(lost | absent))
        records = sorted(
            filter(self._takes, map(merge, self._traces.values())), key=lambda each: each.latest, reverse=True
        )
        missing = self._query.ids - {record.id for record in records}
        more = self._query.limit is not None and len(records) > self._query.limit
        shown = records[: self._query.limit]
        hiding = [gap for gap in gaps if self._may_hide(gap, shown, more, bool(missing))]
        return Found(shown, gaps=hiding, missing=missing, more=more)

    def _takes(self, record: EventRecord) -> bool:
        """Whether a merged record still is what was asked for."""
        since_ms = self._query.since_ms
        return self._query.outcome in (None, record.state) and (
            since_ms is None or record.latest.timestamp() * 1000 >= since_ms
        )

    def _walk(self, query: Query) -> set[str]:
        """Look for events where they stand in Redis; returns the ids of those that were met."""
        if query.outcome is not None and query.outcome not in LIVE | {"dead"}:
            return set()
        wanted, latest = Wanted(query), Latest(None if query.ids else self._most)
        for site in self._sites:
            with site.asked() as client:
                seen_ms = redis_now_ms(client)
                for part in self._parts(client, site, query.outcome):
                    wanted.meet(part, seen_ms, latest)
        for live in latest:
            self._trace(live.id).live = live
        return {live.id for live in latest}

    def _parts(self, client: redis.Redis, site: Site, outcome: str | None) -> Iterator[places.Part]:
        """Everything that may hold events in some state; None: in any."""
        states, account = LIVE if outcome is None else LIVE & {outcome}, self._query.account
        if outcome == "delayed":  # it is in the queue's list until a worker looks at it
            states |= {"waiting"}
        if states:
            chosen = None if account is None else [keys.queue(name, account) for name in site.providers]
            for queue in places.accounts(client, site.providers) if chosen is None else chosen:
                yield from self._counted(queue, places.of_account(client, queue, states))
        if outcome in (None, "dead"):
            for name in site.providers:
                letters = keys.dead(name)
                yield from self._counted(letters, places.entries(client, letters, name, "dead"))

    def _counted(self, place: str, parts: Iterable[places.Part]) -> Iterator[places.Part]:
        count = 0
        for part in parts:
            yield part
            count += len(part.raws)
            self._progress(place, count)

    def _read(self, query: Query, met: Collection[str]) -> None:
        """Read from the journal what it says of events that were met, and of those it knows.

        An entry may leave out what the query asks for, so those events are read by their ids.
        """
        ids = {*met, *(() if query.outcome in LIVE else self._discovered(query))}
        if not ids:
            return
        chosen = Query(ids=frozenset(ids))
        # A record that is moved meanwhile is met in both places.
        entries = {(entry.grant, entry.place): entry for entry in self._in_streams(chosen, None)}
        if self._journal is not None:
            entries.update({(entry.grant, entry.place): entry for entry in self._journal.entries(chosen)})
        by_id: dict[str, list[Entry]] = {}
        for entry in sorted(entries.values(), key=lambda each: each.at_ms):
            by_id.setdefault(entry.id, []).append(entry)
        for event_id, its_entries in by_id.items():
            self._trace(event_id).entries = its_entries

    def _discovered(self, query: Query) -> set[str]:
        """Ids of the events that the journal knows."""
        most = None if query.ids else self._most
        ids = {entry.id for entry in self._in_streams(query, most)}
        if self._journal is not None:
            ids |= {entry.id for entry in self._journal.entries(replace(query, limit=most))}
        return ids

    def _in_streams(self, query: Query, most: int | None) -> Iterator[Entry]:
        """Entries of the streams; with ``most``, of so many events of each provider at most."""
        wanted = Wanted(query)
        for site in self._sites:
            with site.asked() as client:
                for name in site.providers:
                    ids = set[str]()
                    for entry in streams.entries(client, name, wanted):
                        ids.add(entry.id)
                        yield entry
                        if most is not None and len(ids) >= most:
                            break

    def _trace(self, event_id: str) -> Trace:
        return self._traces.setdefault(event_id, Trace(event_id))

    def _may_hide(self, gap: Gap, shown: Sequence[EventRecord], more: bool, missing: bool) -> bool:
        """Whether missing records may concern what is shown, or why nothing is."""
        if missing or not shown:
            return True
        if not self._query.names_events:
            since_ms = shown[-1].latest.timestamp() * 1000 if more else self._query.since_ms or 0
            return gap.until_ms >= since_ms
        return any(
            record.provider == gap.provider
            and (record.enqueued_at or record.latest).timestamp() * 1000 <= gap.until_ms
            and (record.ended_at is None or record.ended_at.timestamp() * 1000 >= gap.since_ms)
            for record in shown
        )
