"""Finding the guilty events of a refused batch, simulated to the end.

Given an account's messages and groups as ``take.lua`` and ``settle.lua`` keep them, when every
grant goes through ``Delivery``, then exactly the guilty are dead.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import cache
from math import ceil, log2

import pytest

from config.accounts import Account
from postback.mytracker import Login
from tasks.delivery import Report, fitting
from tasks.envelopes import Envelope, open_envelope
from tasks.grants import Grant, halves_after
from tasks.providers import PROVIDERS
from tasks.request import Answer, HttpRequest
from tasks.rulings import Again, Back, Dead
from tests.unit.tasks.fakes import account, delivery, grant_of, message

LARGEST = 20
ACCOUNT = account("mytracker", max_attempts=1000)

OK = Answer(200, {}, '{"message": "\u041eK"}'.encode())
BAD_REQUEST = Answer(400, {}, b'{"error": "Bad Request"}')
THROTTLED = Answer(429, {}, b"")
BROKEN = Answer(500, {}, b"")
SILENT = Answer(200, {}, b"")


USER = re.compile(rb'"customUserId":"(\d+)"')
BODIES = {str(number): b'{"customUserId":"%d"}' % number for number in range(LARGEST)}


@cache
def raw(number: int) -> bytes:
    """The message of one user."""
    event = {"customUserId": str(number), "eventTimestamp": 1622520000}
    return message("mytracker.login", id=str(number), event=event)


@cache
def opened(number: int) -> Envelope:
    """The same as it is read, once and not in each of a hundred thousand requests."""
    return open_envelope(raw(number))


def envelope(number: int) -> Envelope:
    """The message of one user, ruled on by nobody."""
    return copy(opened(number))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate each user's event once, and not in each of a hundred thousand requests."""
    events = {str(number): Login(custom_user_id=str(number), event_timestamp=1622520000) for number in range(LARGEST)}
    monkeypatch.setattr(Login, "load", lambda wire, account: events[wire["customUserId"]])
    monkeypatch.setattr(PROVIDERS["mytracker"], "encode", lambda account, event: BODIES[event.custom_user_id])


class MyTrackerServer:
    """Refuses any request with a guilty event in it, and counts what it records."""

    def __init__(self, guilty: Iterable[int], disturb: Callable[[], Answer | None] = lambda: None) -> None:
        self.guilty = set(guilty)
        self.disturb = disturb
        self.requests = 0
        self.recorded: Counter[int] = Counter()

    def send(self, request: HttpRequest, account: Account) -> Answer:
        disturbance = self.disturb()
        if disturbance is not None:
            return disturbance
        self.requests += 1
        users = [int(user) for user in USER.findall(request.body or b"")]
        if self.guilty.intersection(users):
            return BAD_REQUEST
        self.recorded.update(users)
        return OK


class Queue:
    """What Redis keeps of an account, as far as isolation goes: the list, and the groups, of which
    the last is taken first.
    """

    def __init__(self, count: int) -> None:
        self.waiting = list(range(count))
        self.halves: list[tuple[list[int], list[int]]] = []
        self.dead: list[int] = []

    def take(self) -> tuple[list[int], list[int], bool]:
        if self.halves:
            return (*self.halves.pop(), True)
        batch, self.waiting = self.waiting[:LARGEST], self.waiting[LARGEST:]
        return batch, [], False

    def settle(self, report: Report) -> None:
        halves = [tuple([int(event.id) for event in part] for part in half) for half in report.settlement.halves]
        halved = {number for half in halves for part in half for number in part}
        front = []
        for event in report.grant.envelopes:
            number, ruling = int(event.id), event.ruling
            if isinstance(ruling, Dead):
                assert json.loads(ruling.letter)["reason"] == "rejected"
                self.dead.append(number)
            elif isinstance(ruling, Back | Again) and number not in halved:
                front.append(number)
        self.waiting = front + self.waiting
        self.halves += reversed(halves)

    def run(self, server: MyTrackerServer) -> None:
        """Deliver until nothing is left."""
        to = delivery(ACCOUNT, server)  # type: ignore[arg-type]
        while self.waiting or self.halves:
            own, siblings, is_group = self.take()
            grant = Grant(
                "postback:test.1", ACCOUNT.queue, [envelope(number) for number in own],
                siblings=[envelope(number) for number in siblings], group=is_group, granted_us=1, lease_end=float("inf"),
            )  # fmt: skip
            self.settle(to.deliver(grant))


def isolate(count: int, guilty: Sequence[int]) -> tuple[Queue, MyTrackerServer]:
    queue, server = Queue(count), MyTrackerServer(guilty)
    queue.run(server)
    return queue, server


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("count", range(2, LARGEST + 1))
def test_every_set_of_guilty_events(count: int) -> None:
    """Given 1 to 3 guilty events anywhere, exactly they die, the rest is recorded once, and each
    costs at most 2 log2 n requests.
    """
    for number in (1, 2, 3):
        for guilty in itertools.combinations(range(count), number):
            queue, server = isolate(count, guilty)
            innocent = set(range(count)) - set(guilty)
            assert sorted(queue.dead) == list(guilty)
            assert server.recorded == Counter(dict.fromkeys(innocent, 1))
            assert server.requests - 1 <= 2 * ceil(log2(count)) * number, guilty


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_all_are_guilty(count: int) -> None:
    """Given nothing but guilty events, all die and no more than 2n - 1 requests are made."""
    queue, server = isolate(count, range(count))
    assert sorted(queue.dead) == list(range(count))
    assert server.requests <= 2 * count - 1


@pytest.mark.parametrize("count", [1, 2, 20])
def test_none_is_guilty(count: int) -> None:
    """Given no guilty event, one request delivers everything."""
    queue, server = isolate(count, [])
    assert (queue.dead, server.requests) == ([], 1)


def test_a_lone_guilty_event() -> None:
    """A guilty event by itself costs no further request."""
    queue, server = isolate(1, [0])
    assert (queue.dead, server.requests) == ([0], 1)


def test_elimination() -> None:
    """A sibling whose twin was recorded is never sent whole: its guilt is proved."""
    _, server = isolate(16, [15])
    assert server.requests == 1 + 4 + 1


@pytest.mark.parametrize("seed", range(60))
def test_through_disturbances(seed: int) -> None:
    """Given 429s, 500s and lost answers on the way, still exactly the guilty die and no innocent is
    lost.
    """
    chance = random.Random(seed)

    def disturb() -> Answer | None:
        return chance.choice([THROTTLED, BROKEN, SILENT]) if chance.random() < 0.3 else None

    count = chance.randint(2, 45)
    guilty = chance.sample(range(count), chance.randint(1, min(3, count)))
    queue, server = Queue(count), MyTrackerServer(guilty, disturb)
    queue.run(server)
    assert sorted(queue.dead) == sorted(guilty)
    assert server.recorded == Counter(dict.fromkeys(set(range(count)) - set(guilty), 1))


class TestHalves:
    def halves(self, own: int, siblings: int, refused: list[int], *, delivered: bool = False) -> list[list[list[int]]]:
        """Each half and its sibling as numbers of events, the grant's own first."""
        grant = grant_of(*[b""] * own, siblings=[b""] * siblings)
        number = {event: at for at, event in enumerate((*grant.envelopes, *grant.siblings), 1)}
        halves = halves_after(grant, [grant.envelopes[at] for at in refused], delivered=delivered)
        return [[[number[event] for event in part] for part in half] for half in halves]

    def test_halves(self) -> None:
        """The first half is the larger one."""
        assert self.halves(5, 0, [0, 1, 2, 3, 4]) == [[[1, 2, 3], [4, 5]]]

    def test_unsent_events_are_left_out(self) -> None:
        """Only what was refused together is halved."""
        assert self.halves(5, 0, [0, 2, 4]) == [[[1, 3], [5]]]

    def test_refused_half_goes_before_its_sibling(self) -> None:
        """A refused half is halved first; its sibling may be innocent and waits whole."""
        assert self.halves(2, 2, [0, 1]) == [[[1], [2]], [[3, 4], []]]

    def test_delivered_half_convicts_its_sibling(self) -> None:
        """If a half was recorded, its sibling is halved unseen."""
        assert self.halves(2, 3, [], delivered=True) == [[[3, 4], [5]]]

    def test_a_convicted_single_is_sent_once_more(self) -> None:
        """A sibling of one cannot be halved: the provider has the last word."""
        assert self.halves(1, 1, [], delivered=True) == [[[2], []]]

    def test_nothing_to_split(self) -> None:
        """Without a sibling and without a refusal nothing is added."""
        assert self.halves(3, 0, []) == []


@pytest.mark.parametrize(
    ("sizes", "most", "count"),
    [
        ([3, 3], 9, 2),
        ([3, 3], 8, 1),
        ([100], 5, 1),
        ([100, 1], 5, 1),
        ([], 5, 0),
        ([1] * 20, 41, 20),
        ([1] * 20, 40, 19),
    ],
)
def test_fitting(sizes: list[int], most: int, count: int) -> None:
    """Brackets and commas count; one event always fits."""
    assert fitting([b"x" * size for size in sizes], most) == count
