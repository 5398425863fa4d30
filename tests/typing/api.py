"""The public interface as type checkers see it. mypy checks this file (`make types`); nothing runs
it.

Each `type: ignore` is a claim too: mypy must report that error, since an unused one is itself an
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

from celery.canvas import Signature

import postback
from postback import EventResult, mytracker, tganalytics, tgtrack, tonai, tonapi
from postback.testing import Outbox, Sent, collect


class Kind(Enum):
    """Kinds of an application's events."""

    SALE = "sale"


def constructors_know_their_fields() -> None:
    """Fields are keywords with a type; what is required is required."""
    sale = tgtrack.AddEvent(
        user_id="98765",
        event_type="sale",
        event_result="success",
        date=1_700_000_000,
        amount=9.9,
        labels=[{"name": "plan", "value": "pro"}],
        account="shop",
    )
    assert_type(sale, tgtrack.AddEvent)
    assert_type(sale.user_id, str)
    assert_type(sale.amount, float | None)
    assert_type(sale.account, str | None)
    tgtrack.AddEvent(user_id="98765")  # type: ignore[call-arg]
    tgtrack.AddEvent("98765", "sale")  # type: ignore[call-arg]
    tgtrack.AddEvent(user_id=9.5, event_type="sale")  # type: ignore[arg-type]
    tgtrack.AddEvent(user_id="98765", event_type="sale", user="98765")  # type: ignore[call-arg]
    tgtrack.AddEvent(user_id="98765", event_type="sale", event_result="won")  # type: ignore[arg-type]
    tgtrack.AddEvent(user_id="98765", event_type="sale", labels=[{"name": "plan"}])  # type: ignore[typeddict-item]
    tgtrack.AddEvent(user_id="98765", event_type="sale", account=1)  # type: ignore[arg-type]


def each_provider_has_its_own_types() -> None:
    """Numbers, literals, mappings and the unset value."""
    tgtrack.OnTelegramWebhook(payload=b'{"update_id": 1}')
    tgtrack.OnTelegramWebhook(payload=1)  # type: ignore[arg-type]
    mytracker.CustomEvent(custom_event_name="level", custom_user_id="7", custom_event_params={"level": "3"})
    mytracker.CustomEvent(custom_event_name="level", custom_event_params={"level": 3.5})  # type: ignore[dict-item]
    mytracker.Login(custom_user_id="7", id_gender=3)  # type: ignore[arg-type]
    tganalytics.Event(user_id=7, event_name="app-init", session_id="…", error_code=None)
    tganalytics.Event(user_id=7, event_name="app-init", session_id="…", error_code=postback.UNSET)
    tganalytics.Event(user_id=7.5, event_name="app-init", session_id="…")  # type: ignore[arg-type]
    tonai.Conversion(telegram_user_id="7")
    tonai.Conversion(telegram_user_id=7.5)  # type: ignore[arg-type]
    tonapi.GetEvent(event_id="…", accept_language=None)
    tonapi.GetEvent()  # type: ignore[call-arg]


def ordinary_values_are_taken(order_id: UUID, total: Decimal, now: datetime, kind: Kind) -> None:
    """Models' ids, decimals, moments and enums. What an event keeps is JSON's own type."""
    sale = tgtrack.AddEvent(user_id=98765, event_type=kind, event_result=kind, amount=total, date=now)
    assert_type(sale.user_id, str)
    assert_type(sale.date, int | None)
    assert_type(tganalytics.Event(user_id="7", event_name=kind, session_id=order_id).session_id, str)
    assert_type(mytracker.CustomEvent(custom_event_name=kind, custom_user_id=order_id, age="38").custom_event_name, str)
    tgtrack.AddEvent(user_id=98765, event_type="sale", date=1.5)  # type: ignore[arg-type]
    tgtrack.AddEvent(user_id=98765, event_type="sale", amount="9.90")  # type: ignore[arg-type]


def events_cannot_change(sale: tgtrack.AddEvent) -> None:
    """A field cannot be set."""
    sale.user_id = "1"  # type: ignore[misc]


def sends_return_results(sale: tgtrack.AddEvent) -> None:
    """Every way to send returns an EventResult."""
    assert_type(sale.delay(), EventResult)
    assert_type(sale.apply_async(countdown=5, idempotency_key="order-17"), EventResult)
    assert_type(sale.delay_via_outbox(using="default", priority=3), EventResult)
    assert_type(sale.si(), Signature[Any])
    assert_type(postback.send_many([sale, tonai.Conversion(telegram_user_id="7")]), list[EventResult])
    assert_type(sale.delay().id, str)
    assert_type(sale.delay().provider, str)
    sale.delay(countdown=5)  # type: ignore[call-arg]
    sale.apply_async(coutdown=5)  # type: ignore[call-arg]
    sale.apply_async(countdown="5")  # type: ignore[arg-type]
    sale.apply_async(link=sale, link_error=[sale.si(), {"task": "shop.on_dead"}], expires=datetime.now())
    sale.delay_on_commit(idempotency_key=17)  # type: ignore[arg-type]
    sale.si(queue="mine")  # type: ignore[call-arg]
    sale.delay_on_commit(using=1)  # type: ignore[arg-type]
    assert_type(sale.delay_on_commit(using="default"), EventResult)
    postback.send_many(sale)  # type: ignore[arg-type]
    postback.send_many(["sale"])  # type: ignore[list-item]


async def async_callers_await_the_send(sale: tgtrack.AddEvent) -> None:
    """``adelay`` is a coroutine of an EventResult, which is awaited by ``aget`` alone."""
    result = await sale.adelay(eta=datetime.now())
    assert_type(result, EventResult)
    assert_type(await result.aget(timeout=10), Any)
    await result  # type: ignore[misc]
    await result.aget(timeout="10")  # type: ignore[arg-type]


def events_are_found() -> None:
    """What is found is a list of records, and says what may be missing from it."""
    found = postback.find(id=["5c1b", "77aa"], since=timedelta(hours=2), limit=None)
    records: list[postback.EventRecord] = found
    assert_type(records[0].attempts, tuple[postback.Attempt, ...])
    assert_type(records[0].enqueued_at, datetime | None)
    assert_type(records[0].as_json(), dict[str, Any])
    assert_type(found.missing, frozenset[str])
    assert_type(records[0].attempts[0].status, int | None)
    postback.find(user=987654321, outcome="delivered", live=True, account="tgtrack.main")
    postback.find("5c1b")  # type: ignore[call-arg]
    postback.find(user=9.5)  # type: ignore[arg-type]
    postback.find(since="2h")  # type: ignore[arg-type]
    records[0].state = "dead"  # type: ignore[misc]


def events_are_loaded_as_their_class(wire: dict[str, Any]) -> None:
    """``load`` returns its own class, the registry any event."""
    assert_type(tgtrack.AddEvent.load(wire, account="shop"), tgtrack.AddEvent)
    assert_type(tonai.Conversion.load(wire), tonai.Conversion)
    assert_type(postback.event_class("tgtrack.add_event"), type[postback.Event])
    assert_type(postback.EVENTS, Mapping[str, type[postback.Event]])
    postback.EVENTS["tgtrack.add_event"] = tgtrack.AddEvent  # type: ignore[index]


def a_process_is_configured() -> None:
    """Accounts are a path or names by provider; the time limit is a number of seconds."""
    postback.configure(broker_url="redis://localhost/0", accounts=Path("accounts.toml"), send_timeout_s=1)
    postback.configure(accounts={"tgtrack": ["main", "shop"]})
    postback.configure(accounts={"tgtrack": 1})  # type: ignore[dict-item]
    postback.configure(send_timeout_s="1")  # type: ignore[arg-type]
    postback.configure("redis://localhost/0")  # type: ignore[call-arg]


def errors_say_what_is_known(sale: tgtrack.AddEvent) -> None:
    """Errors carry their facts as typed attributes."""
    try:
        sale.delay()
    except postback.QueueFull as full:
        assert_type((full.provider, full.account, full.max_queued, full.id), tuple[str, str, int, str | None])
    except postback.PartlyEnqueued as partly:
        assert_type(partly.unknown_ids, tuple[str, ...])
    except postback.SendError as failed:
        assert_type((failed.ids, failed.enqueued), tuple[tuple[str, ...], int])
    except postback.InvalidEvent as invalid:
        assert_type(invalid.errors, dict[str, list[str]])
    except postback.UnknownAccount as unknown:
        assert_type(unknown.known, tuple[str, ...])
    except postback.MessageTooLarge as large:
        assert_type((large.event, large.size, large.limit), tuple[str, int, int])


def tests_collect_events() -> None:
    """What a test collects is a list of events, and what it knows of each send."""
    with collect() as outbox:
        assert_type(outbox, Outbox)
        assert_type(outbox.sent, list[Sent])
        assert_type(outbox.sent[0].options, dict[str, Any])
