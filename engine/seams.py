"""The points between two effects where a crash may fall.

Each is passed by name. Nothing happens here; a crash test puts its own function in place of `reached` before
the gateway starts, and kills the process at the seam it is about.
"""

from __future__ import annotations

from collections.abc import Callable


def _pass(_name: str) -> None:
    pass


reached: Callable[[str], None] = _pass
