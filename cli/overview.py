"""What is open, added up, and the page that shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cli import render, times
from cli.message import Json, addressees
from cli.render import Column, counted
from cli.waits import last_reply, next_try, place, standing
from engine.core import direct
from store.events import Quarantined
from store.mailbox_queries import Withholds
from store.message import SCAN_LANE
from store.waiting import Hold, Waiting

DOMAINS_SHOWN = 20  # of direct delivery, which may have thousands; those with most mail

AGES: tuple[tuple[str, timedelta], ...] = (
    ("under 5m", timedelta(minutes=5)),
    ("5m to 1h", timedelta(hours=1)),
    ("1h to 4h", timedelta(hours=4)),
    ("4h to 1d", timedelta(days=1)),
    ("1d to 5d", timedelta(days=5)),
    ("over 5d", timedelta.max),
)

HOPS = (
    Column(title="NEXT HOP", least=14),
    Column(title="OPEN", right=True),
    Column(title="OLDEST", right=True),
    Column(title="NEXT TRY"),
    Column(title="STANDING", least=15, in_full=": "),
)
HELD = (
    Column(title="HELD"),
    Column(title="AGE", right=True),
    Column(title="AS", least=10),
    Column(title="UNTIL"),
    Column(title="TO", least=12, from_width=95),
    Column(title="WHY", least=9, in_full=": "),
)
OLDEST = (
    Column(title="ID"),
    Column(title="AGE", right=True),
    Column(title="WAY", from_width=110),
    Column(title="STATE", least=9, styles=render.STATE_STYLES),
    Column(title="NEXT HOP", from_width=110),
    Column(title="NEXT TRY"),
    Column(title="TO", least=12, from_width=95),
    Column(title="LAST REPLY", least=10, in_full=": "),
)


@dataclass(slots=True)
class Lane:
    """What waits for one next hop, or for a scanner, of which `said` is known then."""

    oldest_at: datetime
    due_at: datetime
    ordered: bool = False  # some of it is to be tried now
    open: int = 0
    said: str = ""


@dataclass(slots=True)
class Overview:
    """What is open, added up; `oldest` and `held` are the first so many of each."""

    limit: int  # 0 for all
    ages: Counter[str] = field(default_factory=Counter)
    lanes: dict[str, Lane] = field(default_factory=dict)
    oldest: list[Waiting] = field(default_factory=list)
    held: list[tuple[Json, Hold]] = field(default_factory=list)
    held_count: int = 0
    quarantined: int = 0  # and for nothing else
    quarantined_since: datetime | None = None  # when the oldest of them came in
    oldest_at: datetime | None = None
    going: int = 0  # messages that wait for a next hop, held for some recipients or not

    def add(self, one: Waiting, current: datetime) -> None:
        """Add a message; the oldest come first."""
        self.ages[_age(current - one.row["opened_at"])] += 1
        opened_at: datetime = one.row["opened_at"]
        self.oldest_at = min(self.oldest_at or opened_at, opened_at)
        for hop, due_at in one.due.items():
            lane = self.lanes.setdefault(hop, Lane(oldest_at=one.row["opened_at"], due_at=due_at))
            lane.open += 1
            lane.due_at = min(lane.due_at, due_at)
            lane.ordered = lane.ordered or one.ordered
            if hop.startswith(SCAN_LANE):
                lane.said = lane.said or last_reply(one.row)
        self.quarantined += one.quarantined
        if one.quarantined and self.quarantined_since is None:
            self.quarantined_since = one.row["opened_at"]
        self.held_count += bool(one.holds)
        if not self.limit or len(self.held) < self.limit:
            self.held += ((one.row, hold) for hold in one.holds)
        self.going += bool(one.due)
        if one.due and (not self.limit or len(self.oldest) < self.limit):
            self.oldest.append(one)


def show(
    overview: Overview,
    hops: Iterable[Json],
    withheld: Sequence[Withholds],
    current: datetime,
    *,
    past: bool,
) -> None:
    """Print the page; `current` is the time that is past, or now. `withheld` is what mailboxes list and do not give."""
    for one in withheld:
        what = f"mailbox {one.mailbox} lists {counted(one.number, 'message')} not to be had"
        render.paragraph(
            (what, "bold"), f", for {times.span(current - one.since)}: 'mailgate mailbox list' says why."
        )
    total, then = overview.ages.total(), f" at {times.stamp(current)}" if past else ""
    if not total or overview.oldest_at is None:
        if not withheld:
            render.line(f"nothing was open{then}" if past else "nothing is open")
        return
    are = ("was", "were") if past else ("is", "are")
    count = f"1 message {are[0]} open" if total == 1 else f"{total} messages {are[1]} open"
    render.paragraph(
        (f"{count}{then},", "bold"), f" the oldest for {times.span(current - overview.oldest_at)}."
    )
    _page(overview, hops, current, past=past)


def as_hold(hold: Hold) -> Json:
    """Return what holds recipients of a message, as JSON has it."""
    event = hold.event
    return {
        "why": "quarantined" if isinstance(event, Quarantined) else event.why,
        "rule": event.rule,
        "until": None if isinstance(event, Quarantined) else event.until,
        "operator": event.operator,
        "reason": event.reason,
        "recipients": [one.address for one in hold.recipients],
    }


def _page(overview: Overview, hops: Iterable[Json], current: datetime, *, past: bool) -> None:
    known = {hop["next_hop"]: hop for hop in hops}
    if overview.lanes or any(
        hop["failures"] for hop in known.values() if not direct.is_direct(hop["next_hop"])
    ):
        render.line()
        _by_next_hop(overview.lanes, known, current, past=past)
    render.line()
    _by_age(overview.ages)
    if overview.quarantined_since is not None:
        render.line()
        count = "1 message is" if overview.quarantined == 1 else f"{overview.quarantined:,} messages are"
        oldest = f", the oldest for {times.span(current - overview.quarantined_since)}"
        render.paragraph(f"{count} in quarantine{oldest}: 'mailgate quarantine list' shows them.")
    if overview.held:
        render.line()
        render.table(HELD, _held(overview.held, current))
        _more(overview.held_count - len({row["id"] for row, _ in overview.held}))
    if overview.oldest:
        render.line()
        render.table(OLDEST, _oldest(overview.oldest, known, current))
        _more(overview.going - len(overview.oldest))


def _by_next_hop(
    lanes: Mapping[str, Lane], known: Mapping[str, Json], current: datetime, *, past: bool
) -> None:
    down = {name for name, hop in known.items() if hop["failures"] and not direct.is_direct(name)}
    domains = sorted(filter(direct.is_direct, lanes), key=lambda name: (-lanes[name].open, name))
    rows = []
    for name in sorted({*lanes, *down}.difference(domains[DOMAINS_SHOWN:])):
        lane = lanes.get(name)
        rows.append(
            (
                place(name),
                str(lane.open if lane else 0),
                times.span(current - lane.oldest_at) if lane else "",
                next_try(_tried_at(lane.due_at, known.get(name), ordered=lane.ordered), current)
                if lane
                else "",
                lane.said if lane and lane.said else standing(known.get(name, {"next_hop": name}), current),
            )
        )
    columns = HOPS[:-1] if past else HOPS
    render.table(columns, (row[: len(columns)] for row in rows))
    if rest := domains[DOMAINS_SHOWN:]:
        count = sum(lanes[name].open for name in rest)
        told = f"{len(rest)} more domains by MX have {count} open; --json has every message."
        render.paragraph((told, "dim"))


def _by_age(ages: Counter[str]) -> None:
    columns = (Column(title="AGE"), Column(title="OPEN", right=True))
    render.table(columns, ((name, str(ages[name])) for name, _ in AGES if ages[name]))


def _more(count: int) -> None:
    if count > 0:
        render.line((f"There are {count} more; --limit 0 shows them.", "dim"))


def _held(held: Iterable[tuple[Json, Hold]], current: datetime) -> Iterator[tuple[str, ...]]:
    for row, hold in held:
        one = as_hold(hold)
        by = f"{one['operator']}: {one['reason']}" if one["operator"] and one["reason"] else one["operator"]
        if isinstance(hold.event, Quarantined):
            by = f"{hold.event.reason}: {hold.event.rule}"
        yield (
            row["id"],
            times.span(current - row["opened_at"]),
            one["why"],
            next_try(one["until"], current),
            addressees({"recipients": [{"address": address} for address in one["recipients"]]}),
            by or one["rule"],
        )


def _tried_at(due: datetime, hop: Json | None, *, ordered: bool) -> datetime:
    """Return when what is due then is tried: not before its next hop is probed, unless a person wants it tried now."""
    probe_at: datetime | None = hop["probe_at"] if hop is not None and hop["failures"] else None
    return due if probe_at is None or ordered else max(due, probe_at)


def _oldest(
    found: Iterable[Waiting], known: Mapping[str, Json], current: datetime
) -> Iterator[tuple[str, ...]]:
    for one in found:
        row = one.row
        tries = (_tried_at(at, known.get(hop), ordered=one.ordered) for hop, at in one.due.items())
        yield (
            row["id"],
            times.span(current - row["opened_at"]),
            row["direction"],
            row["state"],
            row["next_hop"] or "",
            next_try(min(tries), current),
            addressees(row),
            last_reply(row),
        )


def _age(age: timedelta) -> str:
    return next(name for name, limit in AGES if age < limit)
