"""Who gives an order, for the record, and whether there is somebody to ask."""

from __future__ import annotations

import getpass
import os
import sys
from typing import TYPE_CHECKING, TextIO

from cli.context import Misuse

if TYPE_CHECKING:
    from engine.settings import Settings


def operator() -> str:
    """Return who asks: the user of the system, also behind sudo."""
    from engine.recognition import OURSELVES

    name = os.environ.get("SUDO_USER") or _user()
    # The gateway's own recognitions bear its name; a person who works under that name is none of them.
    return f"user {name}" if name == OURSELVES else name


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in many a container
        return f"user {os.getuid()}"


def check_reason(settings: Settings, reason: str) -> None:
    """Raises Misuse for a decision without a reason, where the configuration wants one."""
    if settings.gateway.require_reason and not reason.strip():
        raise Misuse("--reason is missing: gateway.require_reason wants one on record, with your name")


def can_be_asked() -> bool:
    """Whether somebody is there to answer a question."""
    return is_terminal(sys.stdin)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end; a stream that was closed before we began is None."""
    return stream is not None and stream.isatty()
