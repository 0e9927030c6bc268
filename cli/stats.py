"""`mailgate stats`: what came in, what went where, what the scanners said, and how long it took.

Counted by whole hours: what is asked for is widened to them. Durations are known to an eighth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from cli import context, render, times
from cli.context import Misuse
from cli.message import AsCsv, AsJson, one_format
from cli.render import Column
from store import tallies
from store.database import reading
from store.schema import HOUR
from store.tallies import Tally

Json = dict[str, Any]

DAY = timedelta(days=1)
HALF, MOST = 0.5, 0.95
# What is counted, by kind: its name in JSON, its title, and what its name and its sort are called.
PARTS = {
    "in": ("in", "Came in", "mailbox", "direction"),
    "out": ("out", "Went out", "next_hop", "event"),
    "scan": ("scanned", "Scanned", "scanner", "verdict"),
    "rescan": ("rescanned", "Scanned again", "scanner", "verdict"),
    "kept": ("quarantined", "Quarantined", "scanner", "reason"),
}
COUNTED = ("counted", "from", "to", "name", "what", "count", "octets", "median_ms", "p95_ms")  # as CSV
OWN = "internal"  # nobody submits that: the gateway writes it
NAMELESS = {"in": "(submitted)", "out": "(none)", "kept": "(home server or a person)"}


def stats(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 2h, 3d, or a time. [default: 24 hours]")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Up to then. [default: now]")] = None,
    by_day: Annotated[bool, typer.Option("--by-day", help="Each day (UTC) by itself.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Count what came, went and was found in a span of time, and say how long it took.

    Whole hours are counted. Of delays (from its arrival here to the answer) and of scan times the median and the 95th in a
    hundred are shown.
    """
    one_format(as_json=as_json, as_csv=as_csv)
    current = times.now()
    last = min(times.read_optional(until, "--until", current) or current, current)
    first = times.past_optional(since, "--since", current) or last - DAY
    if first >= last:
        raise Misuse("--since: is not before --until")
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        if as_csv:
            render.comma_separated(COUNTED, ())
        for begin, end in _days(first, last) if by_day else [(first, last)]:
            found = list(tallies.between(connection, begin, end - timedelta(microseconds=1)))
            if as_json:
                for one in found:
                    render.json_line(_as_json(one, begin, end))
            elif as_csv:
                render.comma_separated(None, (_flat(one, begin, end) for one in found))
            else:
                _print(found, begin, end)


def _days(first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    begin = first
    while begin < last:
        end = min(begin.replace(hour=0, minute=0, second=0, microsecond=0) + DAY, last)
        yield begin, end
        begin = end


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _flat(one: Tally, begin: datetime, end: datetime) -> list[Any]:
    return [
        *(PARTS[one.kind][0], _hour(begin), _hour(end - timedelta(microseconds=1)) + HOUR),
        *(one.name or None, one.what, one.count, one.octets),
        *(one.quantile_ms(HALF), one.quantile_ms(MOST)),
    ]


def _as_json(one: Tally, begin: datetime, end: datetime) -> Json:
    _, _, name, what = PARTS[one.kind]
    called = {"name": name, "what": what}
    flat = zip(COUNTED, _flat(one, begin, end), strict=True)
    return {called.get(column, column): value for column, value in flat}


def _print(found: Sequence[Tally], begin: datetime, end: datetime) -> None:
    to = _hour(end - timedelta(microseconds=1)) + HOUR
    render.line((f"From {times.stamp(_hour(begin))} to {times.stamp(to)}", "bold"))
    if not found:
        render.line("nothing happened")
    for kind, (_, title, name, what) in PARTS.items():
        rows = [_row(one) for one in found if one.kind == kind]
        if rows:
            render.line()
            render.line((title, "bold"))
            render.table(_columns(name, what), rows)


def _columns(name: str, what: str) -> tuple[Column, ...]:
    return (
        Column(title=name.replace("_", " ").upper(), least=10),
        Column(title=what.upper(), least=13),
        Column(title="COUNT", right=True),
        Column(title="SIZE", right=True),
        Column(title="MEDIAN", right=True),
        Column(title="95 %", right=True),
    )


def _row(one: Tally) -> tuple[str, ...]:
    return (
        one.name or ("(the gateway)" if one.what == OWN else NAMELESS.get(one.kind, "")),
        one.what,
        f"{one.count:,}",
        times.size(one.octets),
        _span(one.quantile_ms(HALF)),
        _span(one.quantile_ms(MOST)),
    )


def _span(milliseconds: int | None) -> str:
    return "" if milliseconds is None else times.span(timedelta(milliseconds=milliseconds))
