"""The formats of what is in Redis. Each is a number.

A number goes up when an older worker would misread what a newer one writes. It stays as it is when
an older worker may ignore the change, such as a new key or a new header. The sections "Wire format"
of CHANGELOG.md say what each number stands for.
"""

from __future__ import annotations

from typing import Final

__all__ = ["KEY_FORMAT", "KEY_FORMAT_MEMBER", "MESSAGE_FORMAT", "MESSAGE_FORMAT_HEADER"]

#: Format of the keys in ``postback/wire/keys.py`` and of their values. Workers record it in Redis
#: under ``keys.FORMAT``. Without a record it is 1, the first edition's.
KEY_FORMAT: Final = 2
#: Member of ``keys.FORMAT`` whose score is the format of the keys.
KEY_FORMAT_MEMBER: Final = "keys"

#: Newest format of a message that a worker reads.
MESSAGE_FORMAT: Final = 1
#: The header with a message's format. Without it the format is 1.
MESSAGE_FORMAT_HEADER: Final = "postback_format"
