"""Idempotency keys: one of two events with a key is sent, and never neither."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postback.wire import keys
from tests.integration.workers.governor.bench import QUEUE, START_MS, Bench, bury, id_of, message

KEY = "9f86d081884c7d65"
HORIZON_MS = 604_800_000


def event(name: str, key: str = KEY, **headers: Any) -> bytes:
    return message(name, postback_key=key, **headers)


class TestOwner:
    def test_the_second_event_is_told_its_owner(self, bench: Bench) -> None:
        """A second event with the key is handed out with the id of the first."""
        bench.push(event("first"), event("second"))
        took = bench.take(2).grants
        assert [grant.owners for grant in took] == [[b""], [b"first"]]

    def test_the_same_event_passes_again(self, bench: Bench) -> None:
        """A retry of the owner is no duplicate of itself."""
        bench.push(event("first"))
        for _ in range(3):
            grant = bench.one()
            assert grant.owners == [b""]
            bench.fail(grant, back_off_ms=0)

    def test_it_survives_delivery(self, bench: Bench) -> None:
        """The key is remembered after its event was delivered."""
        bench.push(event("first"))
        bench.settle(bench.one())
        bench.push(event("second"))
        assert bench.one().owners == [b"first"]

    def test_a_crash_does_not_release_it(self, bench: Bench) -> None:
        """After its worker died the owner passes and others do not."""
        bench.push(event("first"), event("second"))
        bench.take(2)
        bench.advance(30_000)
        took = bench.take(2).grants
        assert [(id_of(grant.raws[0]), grant.owners[0]) for grant in took] == [("first", b""), ("second", b"first")]

    def test_accounts_do_not_share_keys(self, bench: Bench) -> None:
        """The same key in another account is another key."""
        other = Bench(bench.client, "tgtrack.other")
        bench.push(event("first"))
        other.push(event("second"))
        bench.take()
        assert other.one().owners == [b""]

    def test_within_one_batch(self, bench: Bench) -> None:
        """Of several in one batch the oldest owns the key."""
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(event("a"), event("b"), event("x", key="other"), event("a"))
        # The last is a second copy of the first: a producer that lost the reply has sent it again
        # under the same id.
        assert bench.one().owners == [b"", b"a", b"", b"a"]

    def test_a_second_copy_under_the_same_id_is_dropped(self, bench: Bench) -> None:
        """Sent again under its own id, by a producer that lost the reply or a relay that was
        killed: the first copy is its owner.
        """
        bench.push(event("a"), event("a"))
        first = bench.one()
        assert first.owners == [b""]
        assert bench.one().owners == [b"a"]

    def test_a_second_copy_after_the_delivery_is_dropped(self, bench: Bench) -> None:
        """The key outlives its event."""
        bench.push(event("a"))
        bench.settle(bench.one())
        bench.push(event("a"))
        assert bench.one().owners == [b"a"]

    def test_a_dying_copy_does_not_release_the_key(self, bench: Bench) -> None:
        """A copy that becomes a dead letter leaves the owner its key."""
        bench.push(event("a"), event("a"))
        bench.take()
        bench.settle(bench.one(), health="none", messages=[bury(1, "{}")])
        bench.push(event("b"))
        assert bench.one().owners == [b"a"]


class TestRelease:
    @pytest.mark.parametrize("reason", ["rejected", "expired", "exhausted"])
    def test_a_dead_letter_releases_it(self, bench: Bench, reason: str) -> None:
        """When the owner dies its key is free."""
        bench.push(event("first"))
        bench.settle(bench.one(), health="ok", messages=[bury(1, json.dumps({"reason": reason}))])
        bench.push(event("second"))
        assert bench.one().owners == [b""]

    def test_a_crash_death_releases_it(self, bench: Bench) -> None:
        """So it is when the owner has killed its workers."""
        bench.push(event("first"))
        for _ in range(3):
            bench.take()
            bench.advance(30_000)
        bench.push(event("second"))
        assert bench.one().owners == [b""]
        assert len(bench.dead()) == 1

    def test_a_dead_duplicate_releases_nothing(self, bench: Bench) -> None:
        """The death of an event that does not own the key leaves it to its owner."""
        bench.push(event("first"), event("second"))
        took = bench.take(2).grants
        bench.settle(took[1], health="none", messages=[bury(1, "{}")])
        bench.push(event("third"))
        assert bench.one().owners == [b"first"]

    def test_a_replayed_owner_claims_it_again(self, bench: Bench) -> None:
        """A dead owner that is replayed passes, if nobody has taken the key meanwhile, and is a
        duplicate otherwise.
        """
        bench.push(event("first"))
        bench.settle(bench.one(), health="ok", messages=[bury(1, "{}")])
        bench.push(event("first"))
        assert bench.one().owners == [b""]
        bench.push(event("second"))
        assert bench.one().owners == [b"first"]

    def test_it_expires(self, bench: Bench) -> None:
        """After the horizon the key is free and nothing of it is left."""
        bench.push(event("first"))
        bench.settle(bench.one())
        bench.advance(HORIZON_MS - 1)
        bench.push(event("second"))
        grant = bench.one()
        assert grant.owners == [b"first"]
        bench.settle(grant)
        bench.advance(1)
        bench.take()
        assert not bench.client.exists(keys.idempotency(QUEUE), keys.idempotency_ends(QUEUE))
        bench.push(event("third"))
        assert bench.one().owners == [b""]

    def test_many_expired_ones_do_not_count(self, bench: Bench) -> None:
        """A key whose time is over is free also before it has been swept."""
        for number in range(50):
            bench.client.hset(keys.idempotency(QUEUE), f"k{number}", f"old {START_MS - 1}")
            bench.client.zadd(keys.idempotency_ends(QUEUE), {f"k{number}": START_MS - 1})
        bench.push(event("new", key="k49"))
        assert bench.one().owners == [b""]


class TestForeign:
    def test_an_event_without_an_id_has_no_key(self, bench: Bench) -> None:
        """Events without an id cannot own a key or be dropped for one, and none is lost."""
        document = json.loads(event("x"))
        del document["headers"]["id"]
        raw = json.dumps(document).encode()
        bench.push(raw, raw)
        took = bench.take(2).grants
        assert [grant.owners for grant in took] == [[b""], [b""]]
        assert [grant.raws for grant in took] == [[raw], [raw]]

    @pytest.mark.parametrize("name", ["with space", "a b c", "\u00e4", 'quo"te', "back\\slash", " ", "7 8"])
    def test_any_id_can_own_a_key(self, bench: Bench, name: str) -> None:
        """An id may hold anything that JSON does: the same message passes, another one is told its
        owner.
        """
        bench.push(raw := event(name), raw, event("other"))
        took = bench.take(3).grants
        assert [grant.owners[0] for grant in took[:2]] == [b"", b""]
        assert took[2].owners[0] == json.dumps(name)[1:-1].encode()
        bench.settle(took[0], health="ok", messages=[bury(1, "{}")])
        bench.push(event("third"))
        assert bench.one().owners == [b""]

    def test_an_id_inside_another_header_is_not_its_id(self, bench: Bench) -> None:
        """Two events with the same trace are two events."""

        def traced(name: str) -> str:
            document = json.loads(event(name))
            document["headers"] = {"trace": {"id": "same", "postback_key": "no"}, **document["headers"]}
            return json.dumps(document)

        bench.push(traced("first"), traced("second"))
        took = bench.take(2).grants
        assert [grant.owners for grant in took] == [[b""], [b"first"]]

    @pytest.mark.parametrize("key", [None, 5, "", {"a": "b"}, ["k"]])
    def test_a_key_that_is_none(self, bench: Bench, key: object) -> None:
        """What is no text, and the empty text, is no key."""
        bench.push(message("a", postback_key=key), message("b", postback_key=key))
        took = bench.take(2).grants
        assert [grant.owners[0] for grant in took] == [b"", b""]

    @pytest.mark.parametrize(
        "text",
        ["order-17", "postback_key", "postback", "id", "headers", "delivery_tag", '"postback_key": "other"', "\\", ""],
    )
    @pytest.mark.parametrize("text_first", [False, True])
    def test_the_key_s_text_beside_it(self, bench: Bench, text: str, text_first: bool) -> None:
        """Whatever a key says: scripts compare its hash, find the id and keep the state."""

        def keyed(name: str, key: str) -> str:
            document = json.loads(message(name))
            headers = {"postback_key": key, "postback_key_text": text}
            ordered = dict(reversed(headers.items())) if text_first else headers
            document["headers"] = {**ordered, **document["headers"]}
            return json.dumps(document)

        bench.push(keyed("first", "1" * 64), keyed("second", "1" * 64), keyed("third", "3" * 64))
        took = bench.take(3).grants
        assert [(id_of(grant.raws[0]), grant.owners[0]) for grant in took] == [
            ("first", b""), ("second", b"first"), ("third", b""),
        ]  # fmt: skip
        assert set(bench.client.hkeys(keys.idempotency(QUEUE))) == {b"1" * 64, b"3" * 64}
        for grant in took[1:]:
            bench.settle(grant)
        bench.fail(took[0], back_off_ms=0)
        (again,) = bench.one().raws
        assert json.loads(again)["headers"]["postback"].startswith("attempts=1")
        assert json.loads(again)["headers"]["postback_key_text"] == text

    def test_a_text_alone_is_no_key(self, bench: Bench) -> None:
        """The name of the text's header is not taken for the key's."""
        bench.push(message("a", postback_key_text="k" * 64), message("b", postback_key_text="k" * 64))
        assert [grant.owners[0] for grant in bench.take(2).grants] == [b"", b""]
        assert not bench.client.exists(keys.idempotency(QUEUE))

    def test_a_corrupt_entry_is_taken_over(self, bench: Bench) -> None:
        """An entry that nobody can read does not stop the account."""
        bench.client.hset(keys.idempotency(QUEUE), KEY, "nonsense")
        bench.push(event("a"))
        assert bench.one().owners == [b""]
