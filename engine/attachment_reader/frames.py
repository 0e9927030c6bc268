"""What goes over the pipe between the gateway and the process that reads: frames, each behind its length.

First what to look for, once, which is answered when all is ready; then a message a frame, and a short answer to each.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

LENGTH: Final = Struct(">Q")  # octets of the frame that follows
ANSWER_OCTETS: Final = 256 * 1024  # no answer is longer


class Task(msgspec.Struct, frozen=True):
    """What to look for, and the process's limits: `memory_octets` of address space, `seconds` for one message."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    archives: bool
    memory_octets: int
    seconds: int


class Answer(msgspec.Struct, frozen=True):
    """What was found: the rule, and the files that fit it; why a part could not be read; what the MIME parser found wrong."""

    rule: str | None = None
    files: tuple[str, ...] = ()
    unread: str = ""
    wrong: tuple[str, ...] = ()
