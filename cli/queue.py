"""`mailgate queue`: what is open, by next hop and by age, and what has waited longest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer

from cli import context, render, times, words
from cli.message import AsJson, Json, addressees, as_listed
from cli.render import Column
from store import queries
from store.database import reading

DEFAULT_LIMIT = 20
UNTRIED = "(not tried yet)"

AGES: tuple[tuple[str, timedelta], ...] = (
    ("under 5m", timedelta(minutes=5)),
    ("5m to 1h", timedelta(hours=1)),
    ("1h to 4h", timedelta(hours=4)),
    ("4h to 1d", timedelta(days=1)),
    ("1d to 5d", timedelta(days=5)),
    ("over 5d", timedelta.max),
)

HOPS = (
    Column(title="NEXT HOP"),
    Column(title="OPEN", right=True),
    Column(title="OLDEST", right=True),
    Column(title="NEXT TRY"),
    Column(title="STANDING", least=20),
)
OLDEST = (
    Column(title="ID"),
    Column(title="AGE", right=True),
    Column(title="STATE", styles=render.STATE_STYLES),
    Column(title="NEXT HOP", from_width=110),
    Column(title="NEXT TRY"),
    Column(title="TO", least=12, from_width=95),
    Column(title="LAST REPLY", least=12),
)


def queue(
    limit: Annotated[
        int, typer.Option(metavar="N", help="How many of the oldest to name; 0 for all.")
    ] = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """Show what is open, by next hop and by age, and the oldest. --json: all of it, an object for each message."""
    current, limit = times.now(), words.limit(limit)
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        if as_json:
            for row in queries.queue(connection):
                render.json_line(as_queued(row))
            return
        ages = Counter(_age(current - row["opened_at"]) for row in queries.queue(connection))
        if not ages:
            render.line("nothing is open")
            return
        hops = queries.hops(connection)
        oldest = list(islice(queries.queue(connection), limit or None))
    count = "1 message is open" if ages.total() == 1 else f"{ages.total()} messages are open"
    render.line((f"{count}, the oldest for {times.span(current - oldest[0]['opened_at'])}.", "bold"))
    render.line()
    _by_next_hop(hops, current)
    render.line()
    _by_age(ages)
    render.line()
    _oldest(oldest, ages.total(), current)


def as_queued(row: Mapping[str, Any]) -> Json:
    """Return an open message as JSON has it: as listed, with where and when it is tried next."""
    return as_listed(row) | {"next_hop": row["next_hop"], "due_at": row["due_at"]}


def standing(hop: Mapping[str, Any], current: datetime) -> str:
    """Return how a next hop is doing, in words; `hop` is a row of `queries.hops`."""
    if "failures" not in hop:
        return "nothing known" if hop["next_hop"] else ""
    if not hop["failures"]:
        since = f" since {times.stamp(hop['since'])}" if hop["since"] else ""
        return f"up{since}"
    times_failed = "once" if hop["failures"] == 1 else f"{hop['failures']} times in a row"
    probe = times.away(hop["probe_at"], current) if hop["probe_at"] else "next"
    probed = (
        f"tried again {probe}"
        if hop["probe_at"] is None or hop["probe_at"] > current
        else "may be tried again"
    )
    down = f"down for {times.span(current - hop['since'])}, failed {times_failed}, {probed}"
    return down + (f": {hop['reply']}" if hop["reply"] else "")


def _by_next_hop(hops: list[Json], current: datetime) -> None:
    render.table(
        HOPS,
        (
            (
                hop["next_hop"] or UNTRIED,
                str(hop["open"]),
                times.span(current - hop["oldest_at"]) if hop["oldest_at"] else "",
                _next(hop["due_at"], current) if hop["open"] else "",
                standing(hop, current),
            )
            for hop in hops
            if hop["open"] or hop.get("failures")
        ),
    )


def _by_age(ages: Counter[str]) -> None:
    columns = (Column(title="AGE"), Column(title="OPEN", right=True))
    render.table(columns, ((name, str(ages[name])) for name, _ in AGES if ages[name]))


def _oldest(rows: list[Json], count: int, current: datetime) -> None:
    render.table(OLDEST, _cells(rows, current))
    if len(rows) < count:
        render.line((f"There are {count - len(rows)} more; --limit 0 shows them.", "dim"))


def _cells(rows: list[Json], current: datetime) -> Iterator[tuple[str, ...]]:
    for row in rows:
        replies = (one["reply"] for one in row["recipients"] if one["state"] == row["state"] and one["reply"])
        yield (
            row["id"],
            times.span(current - row["opened_at"]),
            row["state"],
            row["next_hop"] or "",
            _next(row["due_at"], current),
            addressees(row),
            next(replies, ""),
        )


def _next(due: datetime | None, current: datetime) -> str:
    """When a message is due; one that waits for a person never is."""
    if due is None:
        return "by hand"
    return times.away(due, current) if due > current else "now"


def _age(age: timedelta) -> str:
    return next(name for name, limit in AGES if age < limit)
