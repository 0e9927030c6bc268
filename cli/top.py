"""`mailgate top`: how the gateway does, on a full screen that is kept up to date; `--once` prints it and ends.

It only reads, once a second, and each time no more than a bounded part of the store.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from cli import context, panels, render
from cli.context import Misuse
from cli.flow import KINDS, SPAN
from cli.message import AsJson
from cli.person import is_terminal
from cli.snapshot import Snapshot, Watch
from store.message import SCAN_LANE
from store.recorded import listed

DUMB = ("", "dumb", "unknown")
EVENTS_ONCE = 20
IN_LINES = "'mailgate queue' and 'mailgate events --follow' tell it in lines"

Json = dict[str, Any]


def top(
    once: Annotated[bool, typer.Option("--once", help="Print how it is now, and end.")] = False,
    as_json: AsJson = False,
) -> int:
    """Watch the gateway on a full screen: what flows, what waits where, mailboxes, the last events.

    Enter looks into what is marked, down to one message's page; ? lists the keys. --json goes with --once.
    """
    if as_json and not once:
        raise Misuse("--json goes with --once")
    if not once:
        _require_terminal()
    settings = context.settings()
    with context.opened(settings) as engine:
        watch = Watch(engine, settings)
        if not once:
            from cli.live import Live  # and with it a library that nothing else needs

            return Live(watch).watch_until_quit()
        found = watch.look()
    if as_json:
        render.json_line(_as_json(watch, found))
    else:
        _print(watch, found)
    return context.EXIT_DONE


def _require_terminal() -> None:
    """Raises Misuse where there is nothing to draw on; the screen is drawn by way of stderr."""
    if not all(map(is_terminal, (sys.stdin, sys.stdout, sys.stderr))):
        raise Misuse("top needs a terminal: 'mailgate top --once' prints how it is now")
    if os.environ.get("TERM", "") in DUMB:
        raise Misuse(
            f"top can't draw on this terminal (TERM is {os.environ.get('TERM', 'not set')}): {IN_LINES}"
        )


def _print(watch: Watch, found: Snapshot) -> None:
    width = render.width()
    render.line(*panels.head(found, panels.store_name(watch.engine)))
    plain = not panels.draws_blocks(sys.stdout.encoding)
    shown = (
        (panels.FLOW, panels.flow(watch.flow, found.second, width, plain=plain), ""),
        (panels.QUEUE, panels.queue(found), panels.NOTHING_WAITS),
        (panels.MAILBOXES, panels.mailboxes(found), panels.NO_MAILBOX),
        (panels.EVENTS, panels.events(found.events[:EVENTS_ONCE], found.at), panels.NO_EVENT),
    )
    for columns, rows, nothing in shown:
        render.line()
        for parts in panels.lines(columns, rows, width):
            render.line(*parts)
        if not rows:
            render.line((nothing, "dim"))


def _as_json(watch: Watch, found: Snapshot) -> Json:
    events = (one.entry.row for one in found.events[:EVENTS_ONCE] if one.entry)
    return {
        "at": found.at,
        "gateway_runs": found.gateway,
        "position": found.position,
        "in_flight": {"messages": found.in_flight, "octets": found.in_flight_octets},
        "flow": {kind: _flow(watch, found, kind) for kind in KINDS},
        "queue": list(_queue(found)),
        "mailboxes": found.mailboxes,
        "events": [listed(row) for row in events],
    }


def _flow(watch: Watch, found: Snapshot, kind: str) -> Json:
    spans = {"last_minute": panels.MINUTE, "last_5_minutes": SPAN}
    counts = {name: round(watch.flow.total(kind, span, found.second)) for name, span in spans.items()}
    whole = {f"{name}_whole": watch.flow.whole(span, found.second) for name, span in spans.items()}
    return {"per_second": watch.flow.per_second(kind, found.second)} | counts | whole


def _queue(found: Snapshot) -> Iterator[Json]:
    for one in (*found.kept, *found.waiting):
        is_state, is_scanner = one.due_at is None, one.name.startswith(SCAN_LANE)
        hop = found.hops.get(one.name, {})
        yield {
            "next_hop": None if is_state or is_scanner else one.name or None,
            "scanner": one.name.removeprefix(SCAN_LANE) if is_scanner else None,
            "state": one.name if is_state else None,
            "open": one.count,
            "more": one.more,
            "oldest_at": one.oldest_at,
            "due_at": one.due_at,
            "failures": hop.get("failures"),
            "reply": found.said.get(one.name) or hop.get("reply"),
        }
