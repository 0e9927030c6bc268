"""The hash over a stream: history can't be rewritten unseen.

Each event's hash covers the one before it, its own facts, and a salted digest of its personal facts. The digest stays when
the personal facts and their salt are erased, so the chain verifies before and after; without the salt nobody
can test a guess against the digest.
"""

from __future__ import annotations

from hashlib import sha256

import orjson

SALT_OCTETS = 16
GENESIS = bytes(32)  # what the first event of a stream chains to


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
