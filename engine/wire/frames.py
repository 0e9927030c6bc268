"""Frames: how two processes of ours tell apart what they say to each other on one stream of octets.

A frame is a head, which says something, and a body, which is content; in front of both stands how long they are. Owns
the cutting, whatever the pieces are that the octets arrive in, and the limits; knows nothing of what a head says.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_LENGTHS: Final = Struct("!II")
GATHERED_OCTETS: Final = 64 * 1024  # a body up to here is waited for and cut out; a larger one is collected

Octets = bytes | bytearray
Frame = tuple[bytes, Octets]


class FrameFault(Exception):
    """What arrived can't be a frame of ours; the stream is of no more use."""


def beginning(head: bytes, body_octets: int) -> bytes:
    """Return what stands in front of a body of so many octets."""
    return _LENGTHS.pack(len(head), body_octets) + head


class Frames:
    """Octets in, frames out. Heads and bodies may have so many octets."""

    __slots__ = ("_body", "_body_limit", "_filled", "_head", "_head_limit", "_rest")

    def __init__(self, *, head_limit: int, body_limit: int) -> None:
        self._head_limit = head_limit
        self._body_limit = body_limit
        self._rest = b""
        self._head = b""
        self._body: bytearray | None = None  # of a frame that is being collected
        self._filled = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that are whole now. Raises FrameFault."""
        found: list[Frame] = []
        start = self._collect(chunk, 0, found) if self._body is not None else 0
        if self._rest:
            chunk, start = self._rest + chunk, 0
        while (end := self._next(chunk, start, found)) > start:
            start = end
        self._rest = chunk[start:] if start else chunk
        return found

    def _next(self, chunk: bytes, start: int, found: list[Frame]) -> int:
        """Take one frame, or begin to collect it; returns where the rest begins, which is `start` if nothing could be done."""
        head_at = start + _LENGTHS.size
        if self._body is not None or len(chunk) < head_at:
            return start
        lengths: tuple[int, int] = _LENGTHS.unpack_from(chunk, start)
        head_octets, body_octets = lengths
        if head_octets > self._head_limit or body_octets > self._body_limit:
            raise FrameFault(f"a frame of {head_octets} and {body_octets} octets")
        body_at = head_at + head_octets
        if len(chunk) >= body_at + body_octets:
            found.append((chunk[head_at:body_at], chunk[body_at : body_at + body_octets]))
            return body_at + body_octets
        if body_octets <= GATHERED_OCTETS or len(chunk) < body_at:
            return start
        self._head, self._body, self._filled = chunk[head_at:body_at], bytearray(body_octets), 0
        return self._collect(chunk, body_at, found)

    def _collect(self, chunk: bytes, start: int, found: list[Frame]) -> int:
        """Add to a large body; returns where what belongs to it ends."""
        body = self._body
        assert body is not None
        end = min(len(chunk), start + len(body) - self._filled)
        filled = self._filled + end - start
        body[self._filled : filled] = memoryview(chunk)[start:end]
        self._filled = filled
        if filled == len(body):
            found.append((self._head, body))
            self._body = None
        return end
