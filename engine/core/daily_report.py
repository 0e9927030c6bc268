"""The daily report to the postmaster: what needs a look, what happened, what waits, how all parts are. As octets, pure.

What needs a look comes first, and "all is well" where nothing does: a day on which no report comes is a day on which something
is wrong. Behind each figure stands the command that lists what it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from engine.core.policy import Policy
from engine.core.report import Notice, short, to_postmaster
from engine.core.report_words import messages
from store.mailbox_life import Mailbox

LABEL: Final = 26  # columns
FATES: Final = {
    "delivered": "delivered",
    "relayed": "relayed",
    "failed": "failed for good",
    "rejected-oversize": "too large",
    "discarded": "discarded",
}
WAYS: Final = {"inbound": "came in", "outbound": "came to go out", "internal": "reports of our own"}
QUOTED_CHARACTERS: Final = 120  # of what a server said


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What waits for a next hop ("" for none yet); since when that is down, where it is, and what it said."""

    name: str
    waiting: int
    oldest_at: datetime | None
    down_since: datetime | None = None
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Oldest:
    """The message that has waited longest, but for those in quarantine."""

    id: str
    state: str
    opened_at: datetime
    recipient: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What there is to tell of the time from `since` to `until`, and of how it stands now. Sizes are in octets.

    `came` counts messages and octets by direction, `went` by what became of them; `kept_back` is what went into quarantine, by
    reason. `held` and `doubtful` (nobody knows whether the next hop has it) are open, as is what is in `quarantine`; `by_hand`
    is how many of the former two go on by no time, but by a person, by state.
    """

    since: datetime
    until: datetime
    came: Mapping[str, tuple[int, int]]
    went: Mapping[str, int]
    kept_back: Mapping[str, int]
    lanes: Sequence[Lane]
    held: int
    doubtful: int
    by_hand: Mapping[str, int]
    quarantine: int
    oldest: Oldest | None
    mailboxes: Sequence[Mailbox]
    scanners_down: Mapping[str, datetime]  # and since when the postmaster knows
    scanners: int
    shortage: str | None
    store_octets: int
    free_octets: int | None


def daily(day: Day, policy: Policy, notice_id: str, now: datetime) -> Notice:
    """Write the report."""
    looks = list(_looks(day, policy, now))
    lines = [f"from {_minute(day.since)} to {_minute(day.until)} UTC:", ""]
    lines += ["TO LOOK AT", *looks] if looks else ["All is well."]
    lines += ["", "WHAT HAPPENED", *_happened(day)]
    lines += ["", "WHAT WAITS NOW", *_waits(day, now)]
    lines += ["", "HOW IT STANDS", *_stands(day)]
    count = sum(not line.startswith("    ") for line in looks)
    need = "thing needs" if count == 1 else "things need"
    what = f"{count} {need} a look" if count else "all is well"
    return to_postmaster(
        f"Daily report: {what} at {policy.hostname}",
        lines,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        notice_id=notice_id,
        now=now,
    )


# -- what needs a look: a line for each, and the commands behind it, farther in


def _looks(day: Day, policy: Policy, now: datetime) -> Iterator[str]:
    yield from _parts_in_trouble(day)
    if failed := day.went.get("failed"):
        yield f"  - {messages(failed)} failed for good:"
        yield f"    {_events(day, 'failed')}"
    if doubtful := day.by_hand.get("outcome-unknown"):
        verb = "waits" if doubtful == 1 else "wait"
        yield f"  - {messages(doubtful)} may have been handed over or not, and {verb} for you:"
        yield "    mailgate list --state outcome-unknown"
    if held := day.by_hand.get("held"):
        yield f"  - {messages(held)} {'is' if held == 1 else 'are'} held until you decide:"
        yield "    mailgate list --state held"
    if day.oldest is not None and now - day.oldest.opened_at >= policy.warn_after:
        yield f"  - a message has waited for {_span(now - day.oldest.opened_at)}:"
        yield f"    mailgate explain {day.oldest.id}"


def _parts_in_trouble(day: Day) -> Iterator[str]:
    for mailbox in day.mailboxes:
        if mailbox.health != "ok":
            verb = "fails" if mailbox.health == "failing" else "is suspended"
            yield f"  - mailbox {mailbox.name} {verb}{_since(mailbox.since)}: {_quoted(mailbox.text)}"
            yield "    mailgate mailbox list"
        if mailbox.withholds:
            count = messages(mailbox.withholds)
            yield f"  - mailbox {mailbox.name} lists {count} and does not give them:"
            yield "    mailgate mailbox list"
    for lane in day.lanes:
        if lane.down_since is not None:
            yield f"  - next hop {lane.name} is down{_since(lane.down_since)}: {_quoted(lane.said)}"
            yield "    mailgate queue"
    for name, since in sorted(day.scanners_down.items()):
        yield f"  - scanner {name} is down{_since(since)}:"
        yield "    mailgate check --connect"
    if day.shortage is not None:
        yield f"  - {day.shortage}:"
        yield "    mailgate db status"


# -- the figures


def _happened(day: Day) -> Iterator[str]:
    for way, label in WAYS.items():
        if way in day.came:
            count, octets = day.came[way]
            yield _figure(label, f"{count:,} ({_size(octets)})")
    for fate, label in FATES.items():
        if fate in day.went:
            yield _figure(label, f"{day.went[fate]:,}", _events(day, fate))
    if put_off := day.went.get("deferred"):
        yield _figure("tries that were put off", f"{put_off:,}", _events(day, "deferred"))
    for reason, count in sorted(day.kept_back.items()):
        yield _figure(f"quarantined ({reason})", f"{count:,}", _events(day, "quarantined"))
    if not (day.came or day.went or day.kept_back):
        yield "  nothing"
    yield f"  all of it: mailgate stats {_times(day)}"


def _waits(day: Day, now: datetime) -> Iterator[str]:
    for lane in day.lanes:
        if lane.waiting:
            age = "" if lane.oldest_at is None else f", the oldest for {_span(now - lane.oldest_at)}"
            where = f"for {lane.name}" if lane.name else "not tried yet"
            yield _figure(where, f"{lane.waiting:,}{age}", "mailgate queue")
    for label, count, command in (
        ("held", day.held, "mailgate list --state held"),
        ("outcome-unknown", day.doubtful, "mailgate list --state outcome-unknown"),
        ("in quarantine", day.quarantine, "mailgate quarantine list"),
    ):
        if count:
            yield _figure(label, f"{count:,}", command)
    oldest = day.oldest
    if oldest is not None:
        yield _figure(
            "the oldest", f"{_minute(oldest.opened_at)}, {oldest.state}", f"mailgate show {oldest.id}"
        )
        yield f"    for {short(oldest.recipient) or '(nobody)'}"
    if oldest is None and not day.quarantine:
        yield "  nothing"


def _stands(day: Day) -> Iterator[str]:
    well = sum(mailbox.health == "ok" for mailbox in day.mailboxes)
    if day.mailboxes:
        yield _figure("mailboxes", f"{well} of {len(day.mailboxes)} are well", "mailgate mailbox list")
    if day.scanners:
        up = day.scanners - len(day.scanners_down)
        yield _figure("scanners", f"{up} of {day.scanners} are well", "mailgate check --connect")
    free = "" if not day.free_octets else f", {_size(day.free_octets)} of it free"
    yield _figure("store", f"{_size(day.store_octets)}{free}", "mailgate db status")


def _figure(label: str, value: str, command: str = "") -> str:
    return f"  {label.ljust(LABEL - 1)} {value}" + (f"   {command}" if command else "")


def _events(day: Day, name: str) -> str:
    return f"mailgate events --event {name} {_times(day)}"


def _times(day: Day) -> str:
    return f"--since {_stamp(day.since)} --until {_stamp(day.until)}"


def _since(at: datetime | None) -> str:
    return "" if at is None else f" since {_minute(at)}"


def _quoted(said: str | None) -> str:
    return short(said or "no reason is known", QUOTED_CHARACTERS)


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(span: timedelta) -> str:
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2]) or "0 min"


def _size(octets: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if octets >= unit:
            return f"{octets / unit:.1f} {name}"
    return f"{octets} octets"
