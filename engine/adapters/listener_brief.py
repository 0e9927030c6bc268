"""What the process that listens is told at its start: all it needs, and no password but those of its users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.adapters.smtp_listener_access import ListenerAccess
from engine.core.policy import Policy
from engine.settings.values import FreeSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """`sockets` are file descriptors, bound; `log_level` is that of the gateway's log."""

    access: ListenerAccess
    policy: Policy
    sockets: tuple[int, ...]
    folder: Path | None  # of the store, where it is a file
    free_space: FreeSpace
    log_level: int
