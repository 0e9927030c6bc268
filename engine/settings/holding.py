"""What the [[hold]] tables come to: which mail is held by rule, and until when."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime

from engine.core.holding import HoldRule
from engine.settings.lines import Place
from engine.settings.reading import Fault, nearest
from engine.settings.tables import HoldTable
from engine.settings.values import shown


def holds(tables: tuple[HoldTable, ...], next_hops: tuple[str, ...]) -> tuple[HoldRule, ...]:
    """The [[hold]] tables. Raises Fault."""
    return tuple(_hold(("hold", number), table, next_hops) for number, table in enumerate(tables))


def _hold(place: Place, table: HoldTable, next_hops: tuple[str, ...]) -> HoldRule:
    if table.next_hop is not None and table.next_hop not in next_hops:
        text = f"there is no next hop {shown(table.next_hop)}; {nearest(table.next_hop, next_hops)}"
        raise Fault((*place, "next_hop"), text)
    if not (table.recipients or table.senders or table.users or table.next_hop):
        raise Fault((*place, "recipients"), 'is missing: which mail is meant? For all mail write ["*"]')
    return HoldRule(
        recipients=tuple(table.recipients),
        senders=tuple(table.senders),
        users=tuple(table.users),
        next_hop=table.next_hop,
        until=None if table.until is None else _until((*place, "until"), table.until),
    )


def _until(place: Place, written: datetime) -> datetime:
    if written.tzinfo is None:
        raise Fault(place, "lacks its offset from UTC: write it as in 2026-11-30T08:00:00Z")
    if written.year in (MINYEAR, MAXYEAR):  # nothing can be reckoned with an end of the calendar
        raise Fault(
            place, "is no time that comes: leave it out, and mail is held until somebody lets it go on"
        )
    return written.astimezone(UTC)
