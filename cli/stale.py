"""Whether the gateways that run have the configuration by which a command speaks of what comes next.

A gateway reads it when it starts: a file that was changed since is in force for the command, and not for the gateway.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from engine.settings import Settings


def stale(settings: Settings, engine: Engine) -> str | None:
    """Say which gateways that run were started with another configuration; None where none was, or it can't be said."""
    from engine import presence

    try:
        running = presence.configurations(engine)
    except presence.LockTrouble:  # the sign of life is another user's
        return None
    return _in_words(running, settings.fingerprint)


def warn(settings: Settings, engine: Engine) -> None:
    """Say so on stderr, where it is no line among those that a program reads."""
    if (said := stale(settings, engine)) is not None:
        print(f"mailgate: {said}", file=sys.stderr)  # noqa: T201


def _in_words(running: Sequence[str], ours: str) -> str | None:
    others = sum(one != ours for one in running)
    if not others:
        return None
    if len(running) == 1:
        return "the gateway that runs was started with another configuration: restart it"
    of, (was, them) = f" of {len(running)}", ("was", "it") if others == 1 else ("were", "them")
    which = f"{others}{of if others < len(running) else ''} gateways that run"
    return f"{which} {was} started with another configuration: restart {them}"
