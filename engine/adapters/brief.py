"""What a process of ours is told at its start, over the line.

It goes one way only, from the gateway to the process it has started: to read it is to trust who wrote it.
"""

from __future__ import annotations

import pickle
import socket
from struct import Struct
from typing import Any, Final

_LENGTH: Final = Struct("!I")


def written(brief: Any) -> bytes:
    """Return a brief as it is sent."""
    octets = pickle.dumps(brief)
    return _LENGTH.pack(len(octets)) + octets


def read(line: socket.socket) -> Any:
    """Wait for the brief and return it. Raises EOFError where the gateway is gone."""
    (octets,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    return pickle.loads(_exactly(line, octets))  # noqa: S301 - from the process that started us


def _exactly(line: socket.socket, octets: int) -> bytes:
    found = bytearray()
    while len(found) < octets:
        piece = line.recv(octets - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
