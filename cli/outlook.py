"""What comes next for a message, as far as its own events tell.

Without the configuration: for a page that is true at any time, also in the past. Why the current policy decides as it does
is `explain`'s to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cli import times
from store.life import Message, due_at
from store.mailbox_life import Known
from store.recipient import Recipient


def outlook(message: Message, current: datetime, later: Known | None = None) -> str:
    """Return what comes next, in a sentence or two; `later` is as what it came that was too large to be fetched."""
    if later is not None and later.opened_at is not None and later.opened_at <= current:
        return _came_later(message, later)
    if not message.open:
        return _closed(message)
    due = message.due_at
    if due is None and message.state == "quarantined":
        stays = "It stays in quarantine until a person releases or discards it"
        if message.exempt_since is not None:
            return f"{stays}: {legal_hold(message, message.exempt_since)}."
        return f"{stays}, or it has been there for as long as [retention] says."
    if due is None:
        return f"Nothing, until a person decides: it is {message.state}{_doubt(message)}."
    if any(one.in_flight for one in message.recipients):
        return "An attempt is under way, or was cut off; then a gateway tries again or holds it, as its policy says."
    if message.state == "received" and message.attempts == 0:
        return "It is handed over as soon as a gateway runs."
    return _going_on(message, due, current) + left(message)


def legal_hold(message: Message, since: datetime) -> str:
    """Return who keeps it from retention, to stand behind a colon."""
    return f"kept from retention by {message.exempt_by} since {times.stamp(since)}"


def _going_on(message: Message, due: datetime, current: datetime) -> str:
    """What is due first, which may not be what is held."""
    first = [one for one in message.recipients if due_at(one, message) == due]
    if due > current and all(one.held for one in first):
        who = "it" if len(first) == len(message.recipients) else "them"
        goes_on = "It goes on" if who == "it" else f"For {_named(first)} it goes on"
        return (
            f"{goes_on} {times.away(due, current)}, at {times.stamp(due)}, or when a person releases {who}."
        )
    if message.awaited is not None:
        return f"It waits for scanner {message.awaited}, and is scanned {_then(due, current)}."
    what = "tried again" if message.attempts else "looked at again"
    where = f" at {message.place}" if message.place else ""
    return f"It is {what}{where} {_then(due, current)}."


def left(message: Message) -> str:
    """For whom a person must decide, while it goes on for others: a sentence behind another one, or nothing."""
    these = [one for one in message.recipients if one.open and due_at(one, message) is None]
    return f" For {_named(these)} it stays until a person decides." if these else ""


def _named(recipients: Sequence[Recipient]) -> str:
    names = [one.address or f"recipient {one.number + 1}" for one in recipients]
    return names[0] if len(names) == 1 else f"{len(names)} recipients"


def _then(due: datetime, current: datetime) -> str:
    if due <= current:
        return f"as soon as a gateway runs: it has been due since {times.stamp(due)}"
    return f"{times.away(due, current)}, at {times.stamp(due)}"


def _doubt(message: Message) -> str:
    """Say what whoever decides must know."""
    if message.state == "outcome-unknown":
        hops = sorted(
            {one.next_hop for one in message.recipients if one.state == message.state and one.next_hop}
        )
        return (
            f"; {' or '.join(hops) or 'the next hop'} may have it already, and get it twice if it is released"
        )
    return ""


def _closed(message: Message) -> str:
    match message.state:
        case "delivered":
            fate = "Nothing more: it is delivered"
        case "relayed":
            fate = "Nothing more: a smart host took responsibility for it"
        case "failed":
            fate = "Nothing more: it is not tried again for the recipients that failed"
        case "rejected-oversize":
            fate = _too_large(message)
        case "discarded":
            fate = "Nothing more: it was decided that it goes nowhere"
        case _:
            fate = f"Nothing more: it is {message.state}"
    return f"{fate}{_in_mailbox(message)}."


def _too_large(message: Message) -> str:
    if message.mailbox is None and message.content is None:
        return "Nothing more: it is too large, its client was told so and has it still"
    if message.replays and message.content is None:
        asked = f"It was asked for again (replay {message.replays[-1]})"
        return f"{asked}: what the next poll fetches, or finds too large again, is a message of its own"
    return "Nothing more: it is too large"


def _came_later(message: Message, later: Known) -> str:
    how = "it was found too large again" if later.content is None else "it was fetched later"
    return f"Nothing more: {how}, as message {later.stream}{_in_mailbox(message, gone=later.gone)}."


def _in_mailbox(message: Message, *, gone: bool = False) -> str:
    if message.mailbox is None:
        return ""
    if message.removed or gone:
        return f", and mailbox {message.mailbox} no longer holds it"
    return f". Mailbox {message.mailbox} still holds it, as far as is known"
