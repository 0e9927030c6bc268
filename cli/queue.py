"""`mailgate queue`: what is open, by next hop and by age; what is held and why; what has waited longest."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from cli import context, filters, render, stale, times, words
from cli.message import LISTED, AsCsv, AsJson, At, Json, as_listed, flat, one_format
from cli.overview import Overview, as_hold, show
from store import mailbox_queries, queries
from store.database import reading
from store.mailbox_queries import Withholds
from store.message import SCAN_LANE
from store.queries import Filter
from store.waiting import Waiting, waiting

DEFAULT_LIMIT = 20


@filters.taken
def queue(
    wanted: Filter,
    limit: Annotated[
        int, typer.Option(metavar="N", help="How many of the oldest to name; 0 for all.")
    ] = DEFAULT_LIMIT,
    at: At = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what is open, by next hop and by age; what is held, and why; the oldest; what mailboxes list and don't give.

    With --json or --csv all of it, an object or a line for each message. With --at what was open then; how the next hops
    were doing, and what mailboxes listed and did not give, is not told of a time that is past.
    """
    one_format(as_json=as_json, as_csv=as_csv)
    current = times.now()
    moment = times.past_optional(at, "--at", current)
    overview = Overview(words.limit(limit))
    settings = context.settings()
    with context.opened(settings) as engine, reading(engine) as connection:
        if moment is None:
            stale.warn(settings, engine)
        found = waiting(connection, wanted, moment)
        if as_json:
            for one in found:
                render.json_line(as_queued(one))
            return
        if as_csv:
            render.comma_separated((*LISTED, "next_hop", "due_at", "held"), map(_flat, found))
            return
        for one in found:
            overview.add(one, moment or current)
        hops = queries.hops(connection) if moment is None else []
        withheld = _withheld(connection, wanted) if moment is None else []
    show(overview, hops, withheld, moment or current, past=moment is not None)


def _withheld(connection: Connection, wanted: Filter) -> list[Withholds]:
    """Return what mailboxes list and do not give: of that only the mailbox is known, so no other filter fits."""
    if replace(wanted, mailbox=None) != Filter():
        return []
    found = mailbox_queries.withholding(connection)
    return [one for one in found if wanted.mailbox in (None, one.mailbox)]


def _flat(one: Waiting) -> list[Any]:
    held = "quarantined" if one.quarantined else "; ".join(as_hold(hold)["why"] for hold in one.holds)
    return [*flat(one.row), one.row["next_hop"], one.row["due_at"], held]


def as_queued(one: Waiting) -> Json:
    """Return an open message as JSON has it: as listed, with where and when it is tried next, and what holds it."""
    return as_listed(one.row) | {
        "next_hop": one.row["next_hop"],
        "scanner": next((lane[len(SCAN_LANE) :] for lane in one.due if lane.startswith(SCAN_LANE)), None),
        "due_at": one.row["due_at"],
        "holds": [_in_quarantine(one.row)] if one.quarantined else [as_hold(hold) for hold in one.holds],
    }


def _in_quarantine(row: Json) -> Json:
    return {
        "why": "quarantined",
        "rule": row["quarantined_by"],
        "until": None,
        "operator": None,
        "reason": row["quarantined_why"],
        "recipients": [one["address"] for one in row["recipients"] if one["state"] == "quarantined"],
    }
