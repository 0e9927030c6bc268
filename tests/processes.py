"""Processes as the kernel shows them; one that ends while it is looked at is gone, and that is no error."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def children(pid: int | None = None, doing: bytes = b"") -> list[int]:
    """The processes that a process (this one) has started, that are there now, and that have `doing` in their command."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{os.getpid() if pid is None else pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return [child for child in found if doing in command(child)]


def environment(pid: int) -> bytes:
    """Return the environment that a process was started with, zeros between its variables."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def command(pid: int) -> bytes:
    """Return a process' command line with zeros between its words; nothing for one that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
