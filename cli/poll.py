"""Polling mailboxes at once: by the gateway where one runs, else here.

What the gateway's poll came to is read off the agenda and the record: it is over when nobody holds the mailbox and its next
poll is to come.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from cli import render, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE
from cli.mailbox import print_trouble, rows_of, well

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from engine.settings import Settings

PATIENCE_SECONDS: Final = (
    15.0  # with the gateway: a poll takes a second or two, and its time-outs half a minute
)
LOOK_EVERY_SECONDS: Final = 0.2

Row = dict[str, Any]


def ask_gateway(settings: Settings, engine: Engine, names: Sequence[str]) -> int:
    """Make the mailboxes due, which the gateway looks for every second; say what came of it. Returns the exit code."""
    before = _downloaded(rows_of(settings, engine))
    busy = _make_due(engine, names)
    for name in names:
        render.line(f"{name}: ", "is being polled right now" if name in busy else "the gateway polls it now")
    until, waited = time.monotonic() + PATIENCE_SECONDS, set(names)
    every_one_well = True
    while waited and time.monotonic() < until:
        time.sleep(LOOK_EVERY_SECONDS)
        for row in rows_of(settings, engine):
            if row["name"] in waited and _is_over(row):
                waited.remove(row["name"])
                _say(row, before)
                every_one_well = well(row) and every_one_well
    for name in sorted(waited):
        render.line(f"{name}: is not through yet: 'mailgate mailbox list' says how it ends")
    return EXIT_DONE if every_one_well else EXIT_BAD_NEWS


def poll_here(settings: Settings, engine: Engine, names: Sequence[str]) -> int:
    """Poll the mailboxes and do the work that follows. Returns the exit code."""
    from cli.run import complete
    from engine import service
    from engine.gateway import Roles

    before = _downloaded(rows_of(settings, engine))
    still_open = complete(service.once(settings, engine, Roles(), frozenset(names))).open
    rows = [row for row in rows_of(settings, engine) if row["name"] in names]
    for row in rows:
        _say(row, before)
    if still_open:
        render.line(f"{still_open:,} open in the store: 'mailgate queue' shows what for")
    return EXIT_DONE if all(well(row) for row in rows) else EXIT_BAD_NEWS


def _downloaded(rows: Sequence[Row]) -> dict[str, int]:
    return {row["name"]: row["downloaded"] for row in rows}


def _say(row: Row, before: dict[str, int]) -> None:
    if row["health"] == "ok":
        downloaded = row["downloaded"] - before[row["name"]]
        render.line(f"{row['name']}: {downloaded:,} downloaded, {row['present']:,} known in the mailbox")
    print_trouble(row)


def _make_due(engine: Engine, names: Sequence[str]) -> list[str]:
    """Make the mailboxes due, but for those that are being polled, which are returned."""
    from store import agenda
    from store.database import writing
    from store.mailbox_events import mailbox_stream

    current = times.now()
    with writing(engine) as connection:
        busy = [name for name in names if _held(connection, name, current)]
        for name in names:
            if name not in busy:
                agenda.put(connection, mailbox_stream(name), agenda.POLL, current)
    return busy


def _held(connection: Connection, name: str, current: datetime) -> bool:
    from store import queries
    from store.mailbox_events import mailbox_stream

    planned = queries.lease(connection, mailbox_stream(name))
    return planned is not None and planned["lease_until"] is not None and planned["lease_until"] > current


def _is_over(row: Row) -> bool:
    due = row["next_poll_at"]
    return not row["polling"] and due is not None and due > times.now()
