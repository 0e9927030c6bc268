"""The hash over a stream: history can't be rewritten unseen.

Each event's hash covers the one before it, its own facts, and a salted digest of its personal facts. The digest stays when
the personal facts and their salt are erased, so the chain verifies before and after; without the salt nobody
can test a guess against the digest.
"""

from __future__ import annotations

import os
from collections import deque
from hashlib import sha256

import orjson

SALT_OCTETS = 16
SALTS_AT_ONCE = 64  # to ask the kernel for each takes as long as all else of an event's row
GENESIS = bytes(32)  # what the first event of a stream chains to


_salts: deque[bytes] = deque()


def new_salt() -> bytes:
    """Return octets that nobody can guess; whatever thread asks, no two are given the same."""
    while True:
        try:
            return _salts.popleft()
        except IndexError:
            pool = os.urandom(SALT_OCTETS * SALTS_AT_ONCE)
            _salts.extend(pool[at : at + SALT_OCTETS] for at in range(0, len(pool), SALT_OCTETS))


def digest(salt: bytes, personal: bytes) -> bytes:
    """Return what stands for the personal facts in the chain."""
    return sha256(salt + personal).digest()


def link(
    previous: bytes,
    stream: str,
    revision: int,
    name: str,
    version: int,
    at: int,
    data: bytes,
    digest: bytes | None,
) -> bytes:
    """Return an event's hash. `at` is in microseconds since 1970, UTC.

    The fields are framed as one JSON list, so that no two different events give the same octets.
    """
    head = orjson.dumps([stream, revision, name, version, at, digest.hex() if digest else None])
    return sha256(previous + head + data).digest()
