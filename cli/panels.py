"""What stands in each panel of `mailgate top`, as cells: the flow, the queue, the mailboxes, the last events.

The same for the full screen and for `--once`. A row has a key, by which it is found again when its place has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from cli import render, story, times
from cli.flow import BLOCKS, KINDS, SPAN, Flow
from cli.mailbox import HEALTH_STYLES, next_poll
from cli.message import addressees, sender
from cli.render import Column, Part
from cli.snapshot import Happening, Json, Snapshot
from cli.waits import last_reply, next_try, place, standing
from engine.core import direct
from store.glance import Waits
from store.message import SCAN_LANE

MINUTE = 60
STATE_KEY = "state:"  # what the key of a row begins with that is no next hop; no next hop's name has a colon but mx:DOMAIN
NOTHING_WAITS, NO_MAILBOX, NO_EVENT = (
    "nothing is open",
    "no mailbox is configured",
    "nothing has happened yet",
)
LINE_LEAST = 10  # characters for the last minutes
EVENT_STYLES = {
    "downloaded": "cyan",
    "submitted": "cyan",
    "imported": "cyan",
    "delivered": "green",
    "relayed": "green",
    "deferred": "yellow",
    "held": "magenta",
    "quarantined": "magenta",
    "failed": "bold red",
    "rejected-oversize": "red",
    "poll-failed": "bold red",
    "uidl-reset-suspected": "bold red",
    "poll-recovered": "green",
}
KEPT = {
    "held": ("(held)", "until a person, or a time, lets it go on"),
    "quarantined": ("(quarantined)", "'mailgate quarantine list' says why"),
    "outcome-unknown": ("(outcome unknown)", "handed over, and no answer on record"),
}

FLOW = (
    Column(title="FLOW"),
    Column(title="NOW/S", right=True),
    Column(title="1 MIN", right=True),
    Column(title="5 MIN", right=True),
    Column(title="LAST 5 MINUTES"),
)
QUEUE = (
    Column(title="NEXT HOP"),
    Column(title="OPEN", right=True),
    Column(title="OLDEST", right=True),
    Column(title="NEXT TRY"),
    Column(title="STANDING", least=12),
)
MAILBOXES = (
    Column(title="MAILBOX", least=8),
    Column(title="HEALTH", styles=HEALTH_STYLES),
    Column(title="SINCE", from_width=100),
    Column(title="PRESENT", right=True),
    Column(title="DOWNLOADED", right=True, from_width=100),
    Column(title="LAST NEW"),
    Column(title="NEXT POLL"),
    Column(title="TROUBLE", least=8),
)
EVENTS = (
    Column(title="TIME"),
    Column(title="MESSAGE", least=8),
    Column(title="EVENT", styles=EVENT_STYLES),
    Column(title="WHAT HAPPENED", least=12),
)
FOUND = (
    Column(title="ID"),
    Column(title="CAME IN"),
    Column(title="STATE", styles=render.STATE_STYLES),
    Column(title="FROM", least=10, from_width=100),
    Column(title="TO", least=10),
    Column(title="SUBJECT", least=10),
    Column(title="LAST REPLY", least=10, from_width=120),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a panel; `style` is for all of it, "" where each column has its own."""

    key: str
    cells: tuple[str, ...]
    style: str = ""


def head(found: Snapshot, store: str) -> list[Part]:
    """Return the line above all panels: the time, whether a gateway runs, what it is working on, which store."""
    gateway = {True: ("gateway running", "green"), False: ("no gateway runs", "bold red")}
    known: Part = (
        "it can't be said whether a gateway runs" if found.gateway is None else gateway[found.gateway]
    )
    size = f" ({times.size(found.in_flight_octets)})" if found.in_flight else ""
    clock = f"{found.at.astimezone():%H:%M:%S}"
    return [("mailgate", "bold"), f"  {clock}  ", known, f"  in flight {found.in_flight:,}{size}  {store}"]


def store_name(engine: Engine) -> str:
    """Return what to call the store in a line: the file, or the server and its database."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "").name
    return f"{url.host or 'postgres'}/{url.database}"


def draws_blocks(encoding: str | None) -> bool:
    """Whether what a terminal is written in has the blocks of the last minutes."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def flow(flow: Flow, second: int, width: int | None, *, plain: bool) -> list[Row]:
    """Return a row for each kind of thing that comes or goes; the line takes what is left of the width."""
    figures = [_figures(flow, kind, second) for kind in KINDS]
    widest = [max(map(len, cells)) for cells in zip(*figures, strict=True)]
    used = sum(max(w, len(c.title)) + len(render.GAP) for w, c in zip(widest, FLOW[:-1], strict=True))
    left = MINUTE if width is None else max(width - used, LINE_LEAST)
    return [
        Row(cells[0], (*cells, flow.line(cells[0], left, second, plain=plain).rstrip() or " "))
        for cells in figures
    ]


def _figures(flow: Flow, kind: str, second: int) -> tuple[str, str, str, str]:
    rate = flow.per_second(kind, second)
    return (
        kind,
        f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}",
        _amount(flow, kind, MINUTE, second),
        _amount(flow, kind, SPAN, second),
    )


def _amount(flow: Flow, kind: str, span: int, second: int) -> str:
    more = "" if flow.whole(span, second) else "+"
    return f"{flow.total(kind, span, second):,.0f}{more}"


def queue(found: Snapshot) -> list[Row]:
    """Return a row for each place where messages wait, and for each next hop in trouble; what needs a person first."""
    waiting = {one.name: one for one in found.waiting}
    down = {
        name
        for name, hop in found.hops.items()
        if hop["failures"] and name not in waiting and not direct.is_direct(name)
    }
    rows = [*(_kept(one, found.at) for one in found.kept), *(_waits(one, found) for one in found.waiting)]
    rows += [_idle(found.hops[name], found.at) for name in sorted(down)]
    return sorted(rows, key=lambda row: not row.style)


def _waits(one: Waits, found: Snapshot) -> Row:
    hop = found.hops.get(one.name, {"next_hop": one.name, "failures": 0, "since": None})
    known = one.name in found.hops
    if one.name.startswith(SCAN_LANE):
        said = found.said.get(one.name) or "can't say anything about them"
    elif one.name == direct.MX:
        said = "directly, by the domains' mail servers"
    else:
        said = standing(hop if known else {"next_hop": one.name}, found.at)
    trouble = one.name.startswith(SCAN_LANE) or (known and hop["failures"])
    return Row(one.name, (place(one.name), *_counts(one, found.at), said), "bold red" if trouble else "")


def _kept(one: Waits, current: datetime) -> Row:
    name, why = KEPT[one.name]
    return Row(f"{STATE_KEY}{one.name}", (name, *_counts(one, current), why), "magenta")


def _idle(hop: Json, current: datetime) -> Row:
    name = hop["next_hop"]
    return Row(name, (name, "0", "", "", standing(hop, current)), "bold red")


def _counts(one: Waits, current: datetime) -> tuple[str, str, str]:
    more = "+" if one.more else ""
    return (
        f"{one.count:,}{more}",
        times.span(current - one.oldest_at) + more,
        next_try(one.due_at, current),
    )


def mailboxes(found: Snapshot) -> list[Row]:
    """Return a row for each mailbox, those in trouble first."""
    rows = sorted(found.mailboxes, key=lambda row: row["health"] in ("ok", "new") and not row["withheld"])
    return [Row(row["name"], _mailbox(row, found.at)) for row in rows]


def _mailbox(row: Json, current: datetime) -> tuple[str, ...]:
    kind = f"{row['kind']}: " if row["kind"] else ""
    trouble = f"{kind}{row['text']}" if row["text"] else ""
    if row["withheld"] and not trouble:
        trouble = f"{len(row['withheld']) + row['more_withheld']:,} listed and not given"
    return (
        row["name"],
        row["health"],
        times.brief(row["since"], current) if row["since"] else "-",
        f"{row['present']:,}",
        f"{row['downloaded']:,}",
        times.away(row["last_new_at"], current) if row["last_new_at"] else "-",
        next_poll(row, current),
        trouble,
    )


def events(happenings: Iterable[Happening], current: datetime) -> list[Row]:
    """Return a row for each event."""
    return [
        Row(str(one.position), (_clock(one.at, current), one.stream, one.name, _told(one)))
        for one in happenings
    ]


def _clock(at: datetime, current: datetime) -> str:
    return times.clock(at)[:8] if times.day(at) == times.day(current) else times.brief(at, current)


def _told(one: Happening) -> str:
    if one.entry is None:
        return one.trouble
    return render.clean(story.sentence(one.entry.event, one.at)).removeprefix(":").strip()


def messages(rows: Iterable[Json], current: datetime) -> list[Row]:
    """Return a row for each message."""
    return [
        Row(
            row["id"],
            (
                row["id"],
                times.brief(row["opened_at"], current),
                row["state"],
                sender(row["reverse_path"]),
                addressees(row),
                row["subject"] or "",
                last_reply(row),
            ),
        )
        for row in rows
    ]


def lines(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> Iterator[list[Part]]:
    """Yield the lines of a panel, the first with the titles."""
    found = render.laid_out(columns, (row.cells for row in rows), width)
    yield next(found)
    for row, parts in zip(rows, found, strict=True):
        yield [(_text(part), row.style) for part in parts] if row.style else parts


def _text(part: Part) -> str:
    return part if isinstance(part, str) else part[0]
