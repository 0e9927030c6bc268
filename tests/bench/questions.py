"""What a person may ask of a store with a million messages (`million`): each filter, and some together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

from store.opening_events import Direction
from store.queries import Filter
from store.recipient import State
from tests.bench.lives import BEGIN, BUSY, RARE, REPLAY, SPAN

END = BEGIN + SPAN
DAY = timedelta(days=1)


def filters(known: dict[str, Any]) -> Iterator[tuple[str, Filter]]:
    """Yield what is asked for, by a name for the table."""
    yield "everything", Filter()
    for kind, whose in (("busy", BUSY), ("rare", RARE)):
        yield f"sender, {kind}", Filter(sender=whose["sender"])
        yield f"recipient, {kind}", Filter(recipient=whose["recipient"])
        yield f"mailbox, {kind}", Filter(mailbox=whose["mailbox"])
    yield "sender, of some message", Filter(sender=known["reverse_path"])
    yield "sender, empty", Filter(sender="<>")
    yield "sender, nobody", Filter(sender="nobody@nowhere.example")
    yield "recipient, nobody", Filter(recipient="nobody@nowhere.example")
    yield "message id", Filter(message_id=known["message_id"])
    yield "message id, none", Filter(message_id="none@nowhere.example")
    for state in get_args(State):
        yield f"state {state}", Filter(state=state)
    for direction in get_args(Direction):
        yield f"direction {direction}", Filter(direction=direction)
    for next_hop in ("home", "provider", "nowhere", "mx"):
        yield f"next hop {next_hop}", Filter(next_hop=next_hop)
    yield "since the last hour", Filter(since=END - timedelta(hours=1))
    yield "since the begin", Filter(since=BEGIN)
    yield "since the future", Filter(since=END + 365 * DAY)
    yield "until the end", Filter(until=END + DAY)
    yield "until the first hour", Filter(until=BEGIN + timedelta(hours=1))
    yield "until the first day", Filter(until=BEGIN + DAY)
    yield "until before all", Filter(until=BEGIN - DAY)
    yield "a day in the middle", Filter(since=BEGIN + 45 * DAY, until=BEGIN + 46 * DAY)
    yield (
        "a minute in the middle",
        Filter(since=BEGIN + 45 * DAY, until=BEGIN + 45 * DAY + timedelta(minutes=1)),
    )
    for name in (
        "downloaded",
        "attempted",
        "delivered",
        "relayed",
        "removed-from-source",
        "deferred",
        "failed",
    ):
        yield f"event {name}", Filter(event=name)
    for name in ("reported", "generated", "rejected-oversize", "held", "quarantined"):
        yield f"event {name}", Filter(event=name)
    yield "replay", Filter(replay=REPLAY)
    yield "replay, none", Filter(replay="never-asked")


def texts(known: dict[str, Any]) -> Iterator[tuple[str, Filter]]:
    """Yield questions for words of subject and addresses."""
    number = known["subject"].split()[-1]
    yield "a word nearly all have", Filter(text="example")
    yield "a common word", Filter(text="invoice")
    yield "two common words", Filter(text="invoice holiday")
    yield "two common words, none with both", Filter(text="hermit invoice")
    yield "a word of one message", Filter(text=number)
    yield "common and rare", Filter(text=f"invoice {number}")
    yield "an address, busy", Filter(text=BUSY["sender"])
    yield "an address, rare", Filter(text=RARE["sender"])
    yield "no such word", Filter(text="nonesuch")
    yield "the beginning of a word", Filter(text=f"{number[:4]}*")
    yield "common word + rare mailbox", Filter(text="invoice", mailbox=RARE["mailbox"])
    yield "rare word + busy mailbox", Filter(text="hermit", mailbox=BUSY["mailbox"])
    yield "common word + a day", Filter(text="invoice", since=END - 46 * DAY, until=END - 45 * DAY)


def fragments(known: dict[str, Any]) -> Iterator[tuple[str, Filter]]:
    """Yield questions for what is inside the words of a subject, within thirty days."""
    inside = known["subject"][3:-2]
    for name, since, until in (
        ("newest 30 days", END - 30 * DAY, None),
        ("30 days in the middle", BEGIN + 30 * DAY, BEGIN + 60 * DAY),
    ):
        for kind, words in (("common", "voic"), ("few", inside), ("none", "o such wor")):
            yield f"{kind}, {name}", Filter(subject=words, since=since, until=until)


def together() -> Iterator[tuple[str, Filter]]:
    """Yield filters that are hard on whoever begins with the wrong one, and those that no index serves."""
    busy, rare = BUSY, RARE
    yield "busy recipient + rare mailbox", Filter(recipient=busy["recipient"], mailbox=rare["mailbox"])
    yield "busy recipient + rare sender", Filter(recipient=busy["recipient"], sender=rare["sender"])
    yield "busy sender + rare recipient", Filter(sender=busy["sender"], recipient=rare["recipient"])
    yield "busy mailbox + state received", Filter(mailbox=busy["mailbox"], state="received")
    yield "rare mailbox + state delivered", Filter(mailbox=rare["mailbox"], state="delivered")
    yield "busy recipient + first hour", Filter(recipient=busy["recipient"], until=BEGIN + timedelta(hours=1))
    yield (
        "busy mailbox + a minute",
        Filter(
            mailbox=busy["mailbox"], since=BEGIN + 45 * DAY, until=BEGIN + 45 * DAY + timedelta(minutes=1)
        ),
    )
    yield "state delivered + first hour", Filter(state="delivered", until=BEGIN + timedelta(hours=1))
    yield "state deferred + first day", Filter(state="deferred", until=BEGIN + DAY)
    yield "rare mailbox + event deferred", Filter(mailbox=rare["mailbox"], event="deferred")
    yield "busy recipient + event failed", Filter(recipient=busy["recipient"], event="failed")
    yield "internal + event failed", Filter(direction="internal", event="failed")
    yield "subject, common word", Filter(subject="invoice")
    yield "subject, one message", Filter(subject="holiday 4711")
    yield "subject, none", Filter(subject="no such words")
    yield "subject, none, in a day", Filter(subject="no such words", since=END - DAY)
    yield "recipient *@example.com", Filter(recipient="*@example.com")
    yield "recipient attic@*", Filter(recipient="attic@*")
    yield "sender *@hut.example", Filter(sender="*@hut.example")
