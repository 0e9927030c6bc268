"""Ids of messages: 16 characters that sort by time.

48 bits of milliseconds since 1970 and 32 random bits, in lower-case Crockford base 32: no letter is taken
for a digit, a double click selects the whole. Two ids of one millisecond clash once in billions; the log
refuses the second, and it is made anew.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

RANDOM_BITS = 32
LENGTH = 16
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def message_id(now: datetime, random: int) -> str:
    """Return an id; `random` is a random number of at least RANDOM_BITS bits, `now` an aware time."""
    value = ((now - _EPOCH) // _MILLISECOND) << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1)
    return "".join(ALPHABET[value >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
