"""`mailgate show ID`: one message's life, every event with its time and what it means.

The page that an administrator pastes into a ticket. With `--at` it stands as it stood then: later events are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, cast

import typer
from sqlalchemy import Connection, Row

from cli import context, render, story, times, words
from cli.context import Failure
from cli.message import AsJson, MessageId, as_folded, sender
from cli.outlook import outlook
from store import mailbox_queries, past, queries
from store.codec import decode_at
from store.database import reading
from store.events import Event, MessageEvent
from store.life import Message, fold
from store.mailbox_life import Known
from store.recipient import ACCEPTED
from store.recorded import as_stored, time_of

EVENTS_LIMIT = 1_000_000  # of one message: more than any life has
LABEL_WIDTH = 14
EVENT_INDENT = 26


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is stored, and what it means."""

    row: Row[Any]
    event: Event
    at: datetime


def show(
    message: MessageId,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it stood then: 2h, 3d, or a time (RFC 3339).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one message's life: every event, every reply, the times between."""
    current = times.now()
    until = times.past_optional(at, "--at", current)
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        entries = life(connection, words.message_id(connection, message))
        later = mailbox_queries.came_as(connection, _folded(entries))
    seen = entries if until is None else past.upto(entries, until)
    if not seen:
        came_in = times.exact(entries[0].at)  # to be pasted: what is shown elsewhere has no fractions
        raise Failure(
            f"message {entries[0].row.stream} was not here yet at that time: it came in at {came_in}"
        )
    folded = _folded(seen)
    if as_json:
        render.json_line({"message": as_folded(folded), "events": [as_stored(entry.row) for entry in seen]})
    else:
        page(folded, seen, until or current, past=until is not None, later=later)


def _folded(entries: Sequence[Entry]) -> Message:
    found = fold(entries[0].row.stream, ((cast(MessageEvent, entry.event), entry.at) for entry in entries))
    assert found is not None  # it has events
    return found


def life(connection: Connection, stream: str) -> list[Entry]:
    """Return a stream's events, oldest first."""
    rows = queries.log_rows(connection, stream=stream, limit=EVENTS_LIMIT)
    return [entry_of(row) for row in rows]


def entry_of(row: Row[Any]) -> Entry:
    """Return a stored event with its meaning. Raises UnknownEvent, Damaged."""
    event = decode_at(row.position, row.name, row.version, row.data, row.personal)
    return Entry(row, event, time_of(row.at))


def facts(message: Message, dated: str | None = None) -> None:
    """Print who, what, how large: the block at the head of a page about a message; `dated` is when its header says."""
    size = f"{times.size(message.size_octets)} ({message.size_octets:,} octets)"
    known = [
        ("From", message.sender),
        ("Reverse-path", sender(message.known_reverse_path)),
        ("Subject", message.subject),
        ("Message-ID", message.message_id),
        ("Date", dated),
        ("Size", size),
        ("SHA-256", message.content),
        ("Octets", _dropped(message)),
        ("Kept", _exempt(message)),
        ("Mailbox", f"{message.mailbox}, UIDL {message.uidl or 'none'}" if message.mailbox else None),
        ("About", f"message {message.about}" if message.about else None),
    ]
    for label, value in known:
        if value:
            labelled(label, value)


def _dropped(message: Message) -> str | None:
    if message.purged_at is None:
        return None
    return f"dropped on {times.stamp(message.purged_at)} by {message.purged_by}"


def _exempt(message: Message) -> str | None:
    if message.exempt_since is None:
        return None
    why = f": {message.exempt_for}" if message.exempt_for else ""
    return (
        f"from retention and erasure since {times.stamp(message.exempt_since)}, by {message.exempt_by}{why}"
    )


def labelled(label: str, *parts: render.Part) -> None:
    """Print a line of a page: a label, and what it is about."""
    render.paragraph(*parts, first=f"  {label}", indent=LABEL_WIDTH + 2)


def page(
    message: Message,
    entries: Sequence[Entry],
    current: datetime,
    *,
    past: bool = False,
    first: Sequence[tuple[str, str]] = (),
    later: Known | None = None,
) -> None:
    """Print all there is to say of a message.

    `first` is what stands in front, a label and a text each; `later` is as of `outlook`.
    """
    as_of = f", as it stood at {times.stamp(current)}" if past else ""
    render.line((f"Message {message.id}", "bold"), as_of)
    for label, text in first:
        labelled(label, text)
    facts(message, getattr(entries[0].event, "date", None))
    labelled("State", (message.state, render.STATE_STYLES[message.state]), _since(message))
    _recipients(message)
    render.line()
    render.line(("What happened", "bold"), f" (times are {times.zone(current)})")
    _events(entries, [one.address for one in message.recipients])
    render.line()
    render.paragraph((_heading(past), "bold"), f" {outlook(message, current, later)}")


def _heading(past: bool) -> str:
    return "What would come next:" if past else "What comes next:"


def _since(message: Message) -> str:
    if message.closed_at is None:
        return f", open since {times.stamp(message.opened_at)}"
    took = message.closed_at - message.opened_at
    after = f", {times.span(took)} after it came in" if took else ""
    return f", closed {times.stamp(message.closed_at)}{after}"


def _recipients(message: Message) -> None:
    for number, one in enumerate(message.recipients):
        tried = f", {one.attempts} attempts" if one.attempts > 1 else ""
        where = f" at {one.next_hop}" if one.next_hop else ""
        reply = f": {one.reply}" if one.reply and one.state not in ACCEPTED else ""
        labelled("" if number else "To", f"{one.address or '(erased)'}: {one.state}{where}{tried}{reply}")


def _events(entries: Sequence[Entry], recipients: Sequence[str]) -> None:
    day, before, policy = "", None, None
    for entry in entries:
        if times.day(entry.at) != day:
            day = times.day(entry.at)
            render.line(f"  {day}")
        since = "" if before in (None, entry.at) else f"+{times.span(entry.at - before)}"
        decided_by = story.policy_of(entry.event)
        changed = f" [policy {decided_by}]" if decided_by not in (None, policy) else ""
        words = story.sentence(entry.event, entry.at, recipients) + changed
        first = f"  {times.clock(entry.at)}  {since:>8}  "
        render.paragraph((entry.event.NAME, "bold"), words, first=first, indent=EVENT_INDENT)
        before, policy = entry.at, decided_by or policy
