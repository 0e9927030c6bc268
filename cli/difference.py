"""`mailgate diff T1 T2`: what changed between two times: counts first, then the messages.

Read from the log, twice over: once to count and once to name, for the counts come first and nothing is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from cli import context, filters, render, times, words
from cli.context import Failure, Misuse
from cli.message import LISTED, AsCsv, AsJson, Json, addressees, as_listed, flat, one_format, sender
from cli.render import Column
from store import between
from store.between import Change
from store.database import reading
from store.queries import Filter

DEFAULT_LIMIT = 50
NEW = "(came in)"

COUNTS = (
    Column(title="FROM"),
    Column(title="TO", styles=render.STATE_STYLES),
    Column(title="MESSAGES", right=True),
)
COLUMNS = (
    Column(title="ID"),
    Column(title="CAME IN", from_width=80),
    Column(title="WAS", least=9),
    Column(title="IS", least=9, styles=render.STATE_STYLES),
    Column(title="FROM", least=12, from_width=95),
    Column(title="TO", least=12, from_width=110),
    Column(title="SUBJECT", least=10),
)


@dataclass(slots=True)
class Counts:
    """How many changed from what to what."""

    ways: Counter[tuple[str, str]] = field(default_factory=Counter)
    came_in: int = 0
    closed: int = 0

    def add(self, change: Change) -> None:
        """Count one."""
        self.ways[change.before or NEW, change.after] += 1
        self.came_in += change.before is None
        self.closed += change.closed


@filters.taken
def diff(
    earlier: Annotated[
        str, typer.Argument(metavar="T1", help="The earlier time: 2h, 3d, or a time (RFC 3339).")
    ],
    wanted: Filter,
    later: Annotated[str, typer.Argument(metavar="T2", help="The later time.", show_default=False)] = "0s",
    limit: Annotated[int, typer.Option(metavar="N", help="How many to name; 0 for all.")] = DEFAULT_LIMIT,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Say what changed between two times, T2 being now where it is not given: which messages came in, which stand otherwise.

    Filters mean the messages as they stood at T2. With --json and --csv all of it, and no counts. Exit code 1 for nothing.
    """
    one_format(as_json=as_json, as_csv=as_csv)
    current = times.now()
    since, at = times.read_past(earlier, "T1", current), times.read_past(later, "T2", current)
    if since >= at:
        raise Misuse(f"T1 must be before T2: {times.stamp(since)} is not before {times.stamp(at)}")
    limit = words.limit(limit)
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        found = between.changes(connection, wanted, since, at)
        if as_json:
            any_found = _json(found)
        elif as_csv:
            any_found = True
            render.comma_separated(("was", *LISTED), ([one.before or "", *flat(one.row)] for one in found))
        else:
            any_found = _counted(found, since, at)
            again = between.changes(connection, wanted, since, at)
            if any_found:
                render.table(COLUMNS, _cells(islice(again, limit) if limit else again))
                if next(again, None) is not None:
                    render.line((f"There are more, older ones; --limit {limit * 4} or 0 shows them.", "dim"))
    if not any_found:
        raise Failure("nothing changed")


def as_changed(change: Change) -> Json:
    """Return a change as JSON has it: the message as it stood at the later time, with what it was before."""
    facts: dict[str, Any] = {
        "change": "changed" if change.before else "came-in",
        "was": change.before,
        "closed": change.closed,
    }
    return as_listed(change.row) | facts


def _json(found: Iterable[Change]) -> bool:
    any_found = False
    for change in found:
        any_found = True
        render.json_line(as_changed(change))
    return any_found


def _counted(found: Iterable[Change], since: datetime, at: datetime) -> bool:
    """Print how many changed, and how; says whether any did."""
    counts = Counts()
    for change in found:
        counts.add(change)
    total = counts.ways.total()
    if total:
        others = total - counts.came_in
        closed = "1 was" if counts.closed == 1 else f"{counts.closed} were"
        told = f"{counts.came_in} came in, {others} others changed; {closed} closed."
        render.paragraph((f"From {times.stamp(since)} to {times.stamp(at)}:", "bold"), f" {told}")
        render.line()
        render.table(COUNTS, ((*way, str(n)) for way, n in counts.ways.most_common()))
        render.line()
    return bool(total)


def _cells(found: Iterable[Change]) -> Iterator[tuple[str, ...]]:
    current, narrow = times.now(), render.width() is not None
    for change in found:
        row = change.row
        yield (
            row["id"],
            times.brief(row["opened_at"], current) if narrow else times.stamp(row["opened_at"]),
            change.before or NEW,
            change.after,
            sender(row["reverse_path"]),
            addressees(row),
            row["subject"] or "",
        )
