"""How much comes and goes: counts of the last minutes, second by second, of what the log tells.

What is behind the last position seen is counted as it comes, in the second in which it is seen; what was there before, by
its own time. Owns no clock and reads nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from store.events import (
    Deferred,
    Delivered,
    Downloaded,
    Failed,
    Imported,
    RejectedOversize,
    Relayed,
    Submitted,
)

SPAN = 300  # seconds that are remembered
NOW = 5  # seconds over which "now" is the mean: of one alone the figure would jump

KINDS: Mapping[str, tuple[str, ...]] = {
    "received": (Downloaded.NAME, Submitted.NAME, Imported.NAME),
    "delivered": (Delivered.NAME,),
    "relayed": (Relayed.NAME,),
    "deferred": (Deferred.NAME,),
    "refused": (Failed.NAME, RejectedOversize.NAME),
}
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_-=+*#"  # for a terminal that knows ASCII alone
NOTHING = "·"
PLAIN_NOTHING = "."
UNKNOWN = " "


class Flow:
    """The counts. `second` is always the current time, in whole seconds since 1970.

    It begins with what the log has of each event's name, by the second it happened; complete from `known_from`.
    """

    def __init__(self, counts: Iterable[tuple[str, int, int]], known_from: int, second: int) -> None:
        self._counts: dict[str, defaultdict[int, float]] = {kind: defaultdict(float) for kind in KINDS}
        self._known_from = known_from
        for name, happened, count in counts:
            self._add(name, min(happened, second), count)  # another machine's clock may be ahead

    def came(self, counts: Iterable[tuple[str, float]], second: int) -> None:
        """Add what has just been seen."""
        for name, count in counts:
            self._add(name, second, count)
        for its in self._counts.values():
            for old in [at for at in its if at <= second - SPAN]:
                del its[old]

    def per_second(self, kind: str, second: int) -> float:
        """Return how many there are a second now."""
        return self.total(kind, NOW, second) / NOW

    def total(self, kind: str, span: int, second: int) -> float:
        """Return how many there were in the last so many seconds."""
        return sum(count for at, count in self._counts[kind].items() if second - span < at <= second)

    def whole(self, span: int, second: int) -> bool:
        """Whether all of the last so many seconds is known."""
        return self._known_from <= second - span + 1

    def line(self, kind: str, width: int, second: int, *, plain: bool = False) -> str:
        """Return the last minutes as a line of blocks, the newest to the right, as high as the highest allows."""
        step = max(-(-SPAN // max(width, 1)), 1)
        last = second // step
        columns = range(last - SPAN // step + 1, last + 1)
        sums = [self._sum(kind, column, step) for column in columns]
        highest = max((amount for amount in sums if amount is not None), default=0.0)
        return "".join(_block(amount, highest, plain) for amount in sums)

    def _sum(self, kind: str, column: int, step: int) -> float | None:
        if (column + 1) * step <= self._known_from:
            return None
        return sum(self._counts[kind].get(at, 0.0) for at in range(column * step, (column + 1) * step))

    def _add(self, name: str, second: int, count: float) -> None:
        if kind := _KIND_OF.get(name):
            self._counts[kind][second] += count


def _block(amount: float | None, highest: float, plain: bool) -> str:
    if amount is None:
        return UNKNOWN
    if not amount:
        return PLAIN_NOTHING if plain else NOTHING
    blocks = PLAIN_BLOCKS if plain else BLOCKS
    return blocks[min(int(amount / highest * len(blocks)), len(blocks) - 1)]
