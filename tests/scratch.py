"""Where tests write: in memory where there is room, for a store waits for its disk at each commit, and a run has
thousands of stores. What a process leaves that is killed is the same there.
"""

from __future__ import annotations

import os
from pathlib import Path

DISK, MEMORY = Path("/tmp"), Path("/dev/shm")
ENOUGH_OCTETS = 2 << 30  # several times what a run has at once


def scratch() -> Path:
    """Return the folder to make others in."""
    try:
        there = os.statvfs(MEMORY)
    except OSError:
        return DISK
    free, runs = there.f_bavail * there.f_frsize, not there.f_flag & os.ST_NOEXEC  # tests write programs, too
    return MEMORY if free >= ENOUGH_OCTETS and runs and os.access(MEMORY, os.W_OK) else DISK
