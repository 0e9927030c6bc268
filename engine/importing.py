"""Taking in messages that a person has in files: once, whatever is given twice.

A message that is here already is not taken in again for whom it is here for: by its octets and the address, never by its
Message-ID alone. Whoever imports a folder a second time, because the first time was cut short, gets no duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Engine

from engine.core import envelope, headers
from engine.core.policy import Policy
from engine.core.routing import Recipients
from engine.opening import direction, has_bare_newlines, held, new_id, next_hop, status_report
from store import log, queries
from store.database import writing
from store.errors import StoreError
from store.events import Event, Imported
from store.life import Message
from store.log import Append, Unit
from store.recipient import State
from store.rows import key


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A message in a file, for whom, and who says so. `reverse_path` None: the header tells."""

    file: str
    octets: bytes
    recipients: tuple[str, ...]
    reverse_path: str | None = None
    operator: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Here:
    """A recipient whom it was here for already, in this message and this state."""

    address: str
    stream: str
    state: State


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of it: the message that it is now, None where it is here for everybody already."""

    message: Message | None
    here: tuple[Here, ...]


def take_in(engine: Engine, given: Given, policy: Policy, now: datetime) -> Taken:
    """Put a message on record for whom it is not here yet. It is durable when this returns."""
    content, facts = sha256(given.octets).hexdigest(), headers.facts(given.octets)
    with writing(engine) as connection:
        known = queries.holders(connection, content, facts.message_id)
        here = tuple(Here(a, *known[key(a)]) for a in given.recipients if key(a) in known)
        left = tuple(a for a in given.recipients if key(a) not in known)
        if not left:
            return Taken(None, here)
        append = _opening(given, left, content, policy, now)
        [refusal] = log.append(connection, [Unit((append,))])
    if refusal is not None:  # its id is new
        raise StoreError(str(refusal))
    assert isinstance(append.after, Message)
    return Taken(append.after, here)


def _opening(given: Given, to: tuple[str, ...], content: str, policy: Policy, now: datetime) -> Append:
    """Return the append that opens its stream."""
    octets, facts = given.octets, headers.facts(given.octets)
    reverse_path = envelope.reverse_path(facts) if given.reverse_path is None else given.reverse_path
    routed = Recipients(addresses=to)
    event = Imported(
        direction=direction(to, policy),
        size_octets=len(octets),
        content=content,
        bare_newlines=has_bare_newlines(octets),
        recipient_count=len(to),
        automatic=facts.auto_submitted or facts.list_id,
        status_report=status_report(facts, reverse_path),
        next_hop=next_hop(reverse_path, routed, policy),
        operator=given.operator,
        policy=policy.version,
        file=given.file,
        reason=given.reason,
        reverse_path=reverse_path,
        recipients=to,
        message_id=facts.message_id,
        subject=policy.on_record(facts.subject),
        from_=facts.sender,
        date=facts.date,
    )
    kept_back = held(facts, octets, routed, policy)
    events: tuple[Event, ...] = (event,) if kept_back is None else (event, kept_back)
    return Append(new_id(now), None, events, now, octets)
