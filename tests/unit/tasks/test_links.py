"""Which links a worker publishes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature
from celery.canvas import StampingVisitor
from kombu.utils import json as kombu_json

from postback import tonai
from tasks.links import MAX_DEPTH, MAX_SIGNATURES, BadLinks, LinkRules

QUEUES = frozenset({"shop.mail"})
APP = Celery("shop", broker="memory://")


def plain(value: Any) -> Any:
    """As it lies in a message."""
    return json.loads(kombu_json.dumps(value))


def link(task: str = "shop.follow", *args: Any, **options: Any) -> Any:
    """A link of the caller's own app."""
    return APP.signature(task, args=args, **options)


def check(*links: Any, name: str = "callbacks") -> None:
    LinkRules(QUEUES).check({name: [plain(one) for one in links]})


class Stamp(StampingVisitor):
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"customer": "gold", "stamped_headers": ["customer"]}


def stamped() -> Any:
    made = link()
    made.stamp(Stamp())
    return made


class TestAllowed:
    @pytest.mark.parametrize(
        "made",
        [
            link(),
            link(queue="shop.mail"),
            link(queue="celery"),
            link(queue="tgtrack.main"),
            link(queue="shop.mail", routing_key="shop.mail", priority=3, countdown=5, expires=60, serializer="json"),
            link(expires=datetime(2033, 1, 1, tzinfo=UTC), eta=datetime(2033, 1, 1)),
            link("shop.follow", datetime(2033, 1, 1), b"\xff", 5),
            link(link=link(queue="shop.mail"), link_error=[link()]),
            link(retry=True, ignore_result=True, time_limit=5, headers={"x": [1]}, task_id="a"),
            stamped(),
            chain(link(), link()),
            group([link(), link()]),
            chain(link(), group([link(), link()]), link()),
            chord([link(), link()], link(queue="shop.mail")),
            chord(group([link(), chain(link(), link())]), link()),
            tonai.Conversion(telegram_user_id="17").si(idempotency_key="k", countdown=1),
            signature("tonai.conversion", kwargs={"event": {}}),
        ],
        ids=lambda made: str(made)[:40],
    )
    def test_as_celery_makes_it(self, made: Any) -> None:
        """What Celery and the SDK make of links is a link."""
        check(made)

    def test_chain(self) -> None:
        """A chain lies in a message as the rest of its signatures."""
        check(link(), link(), name="chain")

    def test_chord(self) -> None:
        """An event may be a part of a chord."""
        LinkRules(QUEUES).check({"chord": plain({**link(), "chord_size": 2})})

    def test_nothing(self) -> None:
        """Celery writes what is not there as null."""
        LinkRules(QUEUES).check(dict.fromkeys(("callbacks", "errbacks", "chain", "chord")))


class TestQueues:
    @pytest.mark.parametrize(
        "options",
        [{"queue": "anything"}, {"queue": "tgtrack.dead"}, {"queue": "tgtrack.main.meta"}, {"queue": "tgtrack"},
         {"queue": "postback.accounts"}, {"queue": "celery\x06\x163"}, {"queue": ""}, {"queue": 5}, {"queue": {"name": "x"}},
         {"queue": ["shop.mail"]}, {"routing_key": "anything"}, {"queue": "celery", "routing_key": "anything"}],
        ids=str,
    )  # fmt: skip
    def test_forbidden(self, options: dict[str, Any]) -> None:
        """Any other queue is refused in a sentence that names the setting and not the queue."""
        with pytest.raises(BadLinks, match="POSTBACK_LINK_QUEUES") as refused:
            check({**link(), "options": options})
        assert "anything" not in str(refused.value)

    @pytest.mark.parametrize("account", ["dead", "main.meta", "../x", "", ["main"], {"a": 1}])
    def test_event_of_no_account(self, account: Any) -> None:
        """An event without a queue goes to its account's: what is no account's name leads
        nowhere.
        """
        made = plain(signature("tgtrack.add_event", kwargs={"account": account}))
        if account == "":  # as no account: the router takes it for `main`
            check(made)
            return
        with pytest.raises(BadLinks):
            check(made)

    @pytest.mark.parametrize("exchange", ["x", "celery", {"name": "x"}])
    def test_exchange(self, exchange: Any) -> None:
        """No exchange is named, so none is ever declared."""
        with pytest.raises(BadLinks, match="exchange"):
            check({**link(), "options": {"exchange": exchange}})

    @pytest.mark.parametrize(
        "outer",
        [
            lambda inner: chain(link(), inner),
            lambda inner: group([link(), inner]),
            lambda inner: chord([link(), inner], link()),
            lambda inner: chord([link()], inner),
            lambda inner: link(link=inner),
            lambda inner: link(link_error=[inner]),
            lambda inner: link(chain=[inner]),
            lambda inner: link(chord=inner),
            lambda inner: chain(link(), group([link(), chord([link()], link(link=[inner]))])),
        ],
    )
    def test_forbidden_inside(self, outer: Any) -> None:
        """The same of a link that hides in another."""
        check(outer(link(queue="shop.mail")))
        with pytest.raises(BadLinks, match="POSTBACK_LINK_QUEUES"):
            check(outer(link(queue="anything")))


class TestRefused:
    @pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
    @pytest.mark.parametrize("value", [5, "shop.follow", [5], [None], [[]], {}, [{}], [{"task": "x"}], True], ids=str)
    def test_no_signature(self, name: str, value: Any) -> None:
        """What is no signature is refused in a sentence that names the part."""
        with pytest.raises(BadLinks, match=f"has {name} "):
            LinkRules(QUEUES).check({name: value})

    @pytest.mark.parametrize(
        "change",
        [{"task": 5}, {"task": ""}, {"task": "celery.backend_cleanup"}, {"args": {}}, {"args": None}, {"kwargs": []},
         {"options": None}, {"subtask_type": "xmap"}, {"subtask_type": 5}, {"subtask_type": "chain"}, {"immutable": 5},
         {"chord_size": "2"}, {"extra": 1}, {"options": {"serializer": "pickle"}}, {"options": {"serializer": "yaml"}},
         {"options": {"producer": 1}}, {"options": {"connection": "redis://x"}}, {"options": {"retry_policy": {}}},
         {"options": {"declare": []}}, {"options": {"result_cls": "x"}}, {"options": {"countdown": "5"}},
         {"options": {"countdown": 1e300}}, {"options": {"expires": "soon"}}, {"options": {"expires": []}},
         {"options": {"eta": 5}}, {"options": {"compression": "rot13"}}, {"options": {"task_id": 5}},
         {"options": {"headers": []}}, {"options": {"stamped_headers": ["a"]}}, {"options": {"stamped_headers": "ab"}},
         {"options": {"stamped_headers": ["queue"], "queue": "celery"}}, {"options": {"unknown": 1}},
         {"args": [{"__type__": "uuid", "__value__": 5}]}, {"args": {"__type__": "date", "__value__": "2020-01-01"}}],
        ids=str,
    )  # fmt: skip
    def test_changed(self, change: dict[str, Any]) -> None:
        """A signature of which one part is not what Celery makes is refused."""
        with pytest.raises(BadLinks):
            check({**plain(link()), **change})

    @pytest.mark.parametrize(
        "made", [chain(link(), link()), group([link()]), chord([link()], link())], ids=["chain", "group", "chord"]
    )
    def test_errback_of_many(self, made: Any) -> None:
        """Celery would run such an errback in the worker."""
        with pytest.raises(BadLinks, match="has errbacks that are not single tasks"):
            check(made, name="errbacks")

    @pytest.mark.parametrize(
        "kwargs",
        [{}, {"tasks": []}, {"tasks": {}}, {"tasks": [5]}, {"tasks": [plain(link())], "x": 1}],
        ids=str,
    )
    def test_empty_canvas(self, kwargs: dict[str, Any]) -> None:
        """A chain or group without tasks is none."""
        for kind in ("chain", "group"):
            with pytest.raises(BadLinks):
                check({**plain(link()), "task": f"celery.{kind}", "subtask_type": kind, "kwargs": kwargs})

    @pytest.mark.parametrize("missing", ["header", "body"])
    def test_half_a_chord(self, missing: str) -> None:
        """A chord has a header and a body."""
        made = plain(chord([link()], link()))
        del made["kwargs"][missing]
        with pytest.raises(BadLinks):
            check(made)

    def test_too_deep(self) -> None:
        """Links in links have an end."""
        made = plain(link())
        for _ in range(MAX_DEPTH + 1):
            made = {**plain(link()), "options": {"link": [made]}}
        with pytest.raises(BadLinks, match="deep"):
            check(made)

    def test_too_many(self) -> None:
        """So has their number."""
        check(*[link()] * MAX_SIGNATURES)
        with pytest.raises(BadLinks, match=f"more than {MAX_SIGNATURES}"):
            check(*[link()] * (MAX_SIGNATURES + 1))

    def test_values_are_not_told(self) -> None:
        """No sentence holds what stands in the message."""
        with pytest.raises(BadLinks) as refused:
            check({**plain(link()), "options": {"secret-name": "secret-value"}})
        assert "secret" not in str(refused.value)
