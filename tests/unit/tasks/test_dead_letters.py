"""What a dead letter says of itself."""

from __future__ import annotations

import base64
import json
import re

import pytest

from tasks.dead_letters import MAX_DETAIL, letter, wrapped
from tasks.envelopes import Envelope, open_envelope
from tasks.outcomes import MAX_BRIEF, Outcome, Verdict, brief
from tests.unit.tasks.fakes import message

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class TestLetter:
    def test_fields(self) -> None:
        """A letter has what ``postback dead list`` shows."""
        envelope = open_envelope(message(headers={"postback_at": 1_700_000_000_123}))
        told = json.loads(letter(envelope, "rejected", "Bad request", status=400, attempts=2, duplicate=True))
        assert ISO.fullmatch(told.pop("failed_at"))
        assert told == {
            "reason": "rejected",
            "status": 400,
            "detail": "Bad request",
            "attempts": 2,
            "enqueued_at": "2023-11-14T22:13:20.123Z",
            "possible_duplicate": True,
        }

    @pytest.mark.parametrize("envelope", [None, Envelope(b"hello"), open_envelope(b"{}")])
    def test_without_a_message(self, envelope: Envelope | None) -> None:
        """What is no message has no enqueue time."""
        assert json.loads(letter(envelope, "crashed"))["enqueued_at"] is None

    def test_detail_is_bounded(self) -> None:
        """A detail is cut, so that letters do not fill Redis."""
        assert len(json.loads(letter(None, "rejected", "x" * 100_000))["detail"]) == MAX_DETAIL

    @pytest.mark.parametrize("detail", ['"', "\\", "\n\r\t\x00", "\u2028", "Ошибка", "\ud800", "}]'"])
    def test_is_one_line_of_ascii(self, detail: str) -> None:
        """The scripts splice a letter into a message as text: whatever it quotes, it stays one line
        of ASCII JSON.
        """
        text = letter(None, "rejected", detail)
        assert text.isascii()
        assert "\n" not in text
        assert json.loads(text)["detail"] == detail


class TestWrapped:
    @pytest.mark.parametrize("raw", [b"", b"hello", b"\xff\x00", b"[]", b'{"a": "\\u0000"}'])
    def test_keeps_the_bytes(self, raw: bytes) -> None:
        """The entry can be put back exactly as it was."""
        document = json.loads(wrapped(Envelope(raw), letter(None, "malformed", "not JSON"), "tgtrack.main"))
        assert base64.b64decode(document["body"]) == raw
        assert document["headers"]["postback_dead"]["reason"] == "malformed"

    def test_is_a_message(self) -> None:
        """It is a Celery message, but none that could be taken for an event."""
        opened = open_envelope(wrapped(Envelope(b"x"), letter(None, "malformed"), "tgtrack.main").encode())
        assert opened.document
        assert opened.defect


class TestBrief:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("Bad Request", "Bad Request"),
            ("", ""),
            (" a\n\tb ", "a b"),
            ("user 987654321 unknown", "user … unknown"),
            ("code 4001", "code 4001"),
            ("<b>502</b> Bad", "502 Bad"),
            ("VALIDATION_MISMATCH_REPORT", "VALIDATION_MISMATCH_REPORT"),
            ('"jane@example.com" is no id', '"…" is no id'),
            ("a < b", "a < b"),
        ],
    )
    def test_text(self, text: str, told: str) -> None:
        """Markup and what looks like a person's data goes, the rest stays."""
        assert brief(text) == told

    @pytest.mark.parametrize("text", ["x" * 1000, "word " * 1000, "<" * 1000, "@" * 1000, "я " * 1000])
    def test_bounded(self, text: str) -> None:
        """One short line, whatever comes."""
        assert len(brief(text)) <= MAX_BRIEF


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict(Outcome.RETRY), ""),
        (Verdict(Outcome.RETRY, "No"), "No"),
        (Verdict(Outcome.RETRY, status=500), "500"),
        (Verdict(Outcome.RETRY, "No", 500), "500 No"),
    ],
)
def test_words(verdict: Verdict, words: str) -> None:
    """A verdict in one line has what is known."""
    assert verdict.words == words
