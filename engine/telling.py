"""Tell the postmaster of a change of state, once: also across restarts, and where several gateways see it.

What was told last is asked in the transaction in which the notice goes into the log, where nobody else writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from engine import intake
from engine.core.report import Notice
from engine.means import Means
from engine.opening import new_id
from store import log, told
from store.events import ReportKind
from store.log import Append, Unit
from store.told import Told

Write = Callable[[str, datetime], Notice]  # with the id and the time it is to have


class Teller:
    """Writes notices to the postmaster. `told` is called when one went into the log."""

    def __init__(self, means: Means, told: Callable[[], None]) -> None:
        self._means = means
        self._told = told

    async def tell(
        self,
        kind: ReportKind,
        name: str,
        write: Write,
        is_news: Callable[[Told | None], bool],
        about: str = "",
        at: datetime | None = None,
    ) -> bool:
        """Tell of `name`, if that is news after what was told last, as of `at`, now; says whether it was. Raises StoreError."""
        now = at or self._means.now()
        opened = intake.generated(kind, about, write(new_id(now), now), now, name or None)
        said: bool = await self._means.journal.append_by(
            partial(_append, opened=opened, kind=kind, name=name, is_news=is_news)
        )
        if said:
            self._told()
        return said


def begins(before: Told | None) -> bool:
    """Whether trouble that begins is news."""
    return before is None or not before.trouble


def ends(before: Told | None) -> bool:
    """Whether it is news that trouble is over."""
    return before is not None and before.trouble


def _append(
    connection: Connection,
    opened: Append,
    kind: ReportKind,
    name: str,
    is_news: Callable[[Told | None], bool],
) -> tuple[bool, Sequence[Unit]]:
    what, _ = told.NEWS[kind]
    if not is_news(told.last(connection, what, name)):
        return False, ()
    units = [Unit((opened,))]
    (refusal,) = log.append(connection, units)
    assert refusal is None  # nobody has written to a new stream
    return True, units
