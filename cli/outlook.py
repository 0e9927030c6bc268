"""What comes next for a message, as far as its own events tell.

Without the configuration: for a page that is true at any time, also in the past. Why the current policy decides as it does
is `explain`'s to say.
"""

from __future__ import annotations

from datetime import datetime

from cli import times
from store.life import Message


def outlook(message: Message, current: datetime) -> str:
    """Return what comes next, in a sentence or two."""
    if not message.open:
        return _closed(message)
    due = message.due_at
    if due is None and message.state == "quarantined":
        return (
            "It stays in quarantine until a person releases or discards it, or it has been there for as long as"
            " [retention] says."
        )
    if due is None:
        return f"Nothing, until a person decides: it is {message.state}{_doubt(message)}."
    if any(one.in_flight for one in message.recipients):
        return "An attempt is under way, or was cut off; then a gateway tries again or holds it, as its policy says."
    if message.state == "received" and message.attempts == 0:
        return "It is handed over as soon as a gateway runs."
    if message.state == "held" and due > current:
        return f"It goes on {times.away(due, current)}, at {times.stamp(due)}, or when a person releases it."
    if message.awaited is not None:
        return f"It waits for scanner {message.awaited}, and is scanned {_then(due, current)}."
    what = "tried again" if message.attempts else "looked at again"
    where = f" at {message.lane}" if message.lane else ""
    return f"It is {what}{where} {_then(due, current)}."


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
            fate = "Nothing more: it is too large"
            if message.mailbox is None and message.content is None:
                fate += ", its client was told so and has it still"
        case "discarded":
            fate = "Nothing more: it was decided that it goes nowhere"
        case _:
            fate = f"Nothing more: it is {message.state}"
    return f"{fate}{_in_mailbox(message)}."


def _in_mailbox(message: Message) -> str:
    if message.mailbox is None:
        return ""
    if message.removed:
        return f", and mailbox {message.mailbox} no longer holds it"
    return f". Mailbox {message.mailbox} still holds it, as far as is known"
