"""The formats of what stands in Redis, each a number.

A number goes up when a worker of the number before would misread what a newer one writes. What an older worker may ignore,
such as a new key or a new header, leaves the number as it is. The sections "Wire format" of CHANGELOG.md say what each
number stands for.
"""

from __future__ import annotations

from typing import Final

#: Format of the keys in ``postback/wire/keys.py``, and of what is in them. Workers record it in Redis
#: under ``keys.FORMAT``; without a record it is 1, the first edition's.
KEY_FORMAT: Final = 2
#: Member of ``keys.FORMAT`` whose score is the format of the keys.
KEY_FORMAT_MEMBER: Final = "keys"

#: Newest format of a message that a worker reads.
MESSAGE_FORMAT: Final = 1
#: The header that says a message's format; without it the format is 1.
MESSAGE_FORMAT_HEADER: Final = "postback_format"
