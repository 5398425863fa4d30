"""Calls of the governor's scripts that are carried out together (ADR 32)."""

from __future__ import annotations

from workers.governor.identities import Identity
from workers.governor.server import MOST_WORK, Call, arguments_of, joined

IDENTITY = Identity("key.a", "key.a", ())


def take(queue: str, settings: bytes = b"", work: int = 1) -> Call:
    return Call("take", queue, b"{}", IDENTITY, settings, work=work)


def sizes(*calls: Call) -> list[int]:
    return [len(together) for together in joined(calls)]


def test_accounts_of_a_provider() -> None:
    """Their calls of one script follow each other: one call."""
    assert sizes(*(take(f"tgtrack.a{number}") for number in range(MOST_WORK))) == [MOST_WORK]


def test_no_call_works_for_long() -> None:
    """What is more than enough for one call is done in the next."""
    assert sizes(take("tgtrack.a", work=MOST_WORK - 1), take("tgtrack.b"), take("tgtrack.c")) == [2, 1]
    assert sizes(take("tgtrack.a", work=10 * MOST_WORK), take("tgtrack.b")) == [1, 1]


def test_another_provider() -> None:
    """It has other keys."""
    assert sizes(take("tgtrack.a"), take("tonapi.a"), take("tonapi.b")) == [1, 2]


def test_another_script() -> None:
    """Settlements come before what is taken, and a look after it."""
    settle, look = Call("settle", "tgtrack.a", b"{}"), Call("look", "tgtrack", b"{}")
    assert sizes(settle, settle, take("tgtrack.a"), take("tgtrack.b"), look) == [2, 2, 1]


def test_looks_stay_apart() -> None:
    """They are of one provider each."""
    assert sizes(Call("look", "tgtrack", b"{}"), Call("look", "tonapi", b"{}")) == [1, 1]


def test_nothing() -> None:
    """No call."""
    assert joined([]) == []


def test_settings_in_common_are_told_once() -> None:
    """Each account says which it has; 0 is none."""
    calls = [take("tgtrack.a", b"[1]"), take("tgtrack.b", b"[2]"), take("tgtrack.c", b"[1]"), take("tgtrack.d")]
    assert arguments_of(calls, 9) == [
        b"[[1],[2]]", b"9", b"1", b"{}", b"", b"2", b"{}", b"", b"1", b"{}", b"", b"0", b"{}", b"",
    ]  # fmt: skip


def test_each_account_has_its_record() -> None:
    """It follows the account's argument."""
    calls = [Call("settle", "tgtrack.a", b"{}", IDENTITY, record=b"A"), Call("settle", "tgtrack.b", b"{}", IDENTITY)]
    assert arguments_of(calls, 0)[2:] == [b"0", b"{}", b"A", b"0", b"{}", b""]
