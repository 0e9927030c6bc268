"""Whether the store's file system has room for new mail."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

UNASKED_SHARE = 20  # without [listen]: a twentieth is little room
UNASKED_OCTETS = 10**9  # or a gigabyte, on a large disk

LOOK_SECONDS = 1.0  # how long what the file system said of its room is believed

logger = logging.getLogger("mailgate.listen")


class FreeSpace:
    """Whether there is room for new mail: the floor is what must stay free where the store is."""

    def __init__(self, folder: Path | None, floor: Callable[[int], int]) -> None:
        self._folder = folder  # None where the store is on a server: its room is not ours to see
        self._floor = floor
        self._looked_at: float | None = None
        self._enough = True

    def enough(self) -> bool:
        """Look, at most once a second; a change is said in the log."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            shortage = shortage_of(self._folder, self._floor)
            if (shortage is None) != self._enough:
                self._enough = shortage is None
                if shortage is None:
                    logger.info("there is room again: new mail is taken")
                else:
                    logger.error("new mail is refused: %s", shortage)
        return self._enough


def shortage_of(
    folder: Path | None, floor: Callable[[int], int], asked_by: str = "listen.free_space"
) -> str | None:
    """Say how little is free in a folder, None where it is enough. `floor` says it for a file system's size, in octets."""
    if folder is None:
        return None
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None  # not for us to see: writing will tell
    wanted = floor(usage.total)
    if usage.free >= wanted:
        return None
    return f"{usage.free // 10**6} MB are free in {folder}, less than the {wanted // 10**6} MB of {asked_by}"


def unasked(total_octets: int) -> int:
    """Return how much should be free where no configuration says so."""
    return min(total_octets // UNASKED_SHARE, UNASKED_OCTETS)
