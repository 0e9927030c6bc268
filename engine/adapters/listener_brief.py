"""What the process that listens is told at its start, over the line: all it needs, and no password but those of its users.

It goes one way only, from the gateway to the process it has started: to read it is to trust who wrote it.
"""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

from engine.adapters.smtp_listener_access import ListenerAccess
from engine.core.policy import Policy
from engine.settings.values import FreeSpace

_LENGTH: Final = Struct("!I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """`sockets` are file descriptors, bound; `log_level` is that of the gateway's log."""

    access: ListenerAccess
    policy: Policy
    sockets: tuple[int, ...]
    folder: Path | None  # of the store, where it is a file
    free_space: FreeSpace
    log_level: int


def written(brief: Brief) -> bytes:
    """Return a brief as it is sent."""
    octets = pickle.dumps(brief)
    return _LENGTH.pack(len(octets)) + octets


def read(line: socket.socket) -> Brief:
    """Wait for the brief and return it. Raises EOFError where the gateway is gone."""
    (octets,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    brief = pickle.loads(_exactly(line, octets))  # noqa: S301 - from the process that started us
    assert isinstance(brief, Brief)
    return brief


def _exactly(line: socket.socket, octets: int) -> bytes:
    found = bytearray()
    while len(found) < octets:
        piece = line.recv(octets - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
