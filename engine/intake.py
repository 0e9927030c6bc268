"""The one door in: octets, first event and due time become one unit of the journal.

Reads header facts from the octets, decides recipients, sees loops. Nothing is ever dropped here: what can't be
routed is kept and held, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from engine.core import envelope, headers, report, routing
from engine.core.policy import Policy
from engine.core.routing import MailboxRule
from engine.opening import (
    Opening,
    Rejection,
    digest,
    has_bare_newlines,
    held,
    new_id,
    next_hop,
    status_report,
)
from engine.ports import Octets
from store.events import (
    Downloaded,
    Event,
    Generated,
    LimitFrom,
    RejectedOversize,
    Reported,
    ReportKind,
)
from store.life import Message
from store.log import Append


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Where a message came from."""

    mailbox: str
    uidl: str
    listed_octets: int
    rule: MailboxRule


async def downloaded(arrival: Arrival, octets: Octets, policy: Policy, now: datetime) -> Append:
    """Return the append that opens the stream of a retrieved message."""
    content = await digest(octets)
    facts = headers.facts(octets)
    routed = routing.recipients(octets, arrival.rule)
    reverse_path = envelope.reverse_path(facts)
    opening = Downloaded(
        mailbox=arrival.mailbox,
        uidl=arrival.uidl,
        size_octets=len(octets),
        listed_octets=arrival.listed_octets,
        content=content,
        bare_newlines=has_bare_newlines(octets),
        recipient_count=len(routed.addresses),
        next_hop=next_hop(reverse_path, routed, policy),
        status_report=status_report(facts, reverse_path),
        policy=policy.version,
        reverse_path=reverse_path,
        recipients=routed.addresses,
        routed_by=routed.routed_by,
        message_id=facts.message_id,
        subject=policy.on_record(facts.subject),
        from_=facts.sender,
        date=facts.date,
        client_ip=facts.client_ip,
    )
    kept_back = held(facts, octets, routed, policy)
    events: tuple[Event, ...] = (opening,) if kept_back is None else (opening, kept_back)
    return Append(new_id(now), None, events, now, octets)


def submitted(opening: Opening, octets: Octets) -> Append:
    """Return the append that opens the stream of a message a client handed us."""
    return Append(opening.stream, None, opening.events, opening.at, octets)


def rejected(rejection: Rejection) -> Append:
    """Return the append that opens and ends the stream of a message that was too large for the listener."""
    return Append(rejection.stream, None, (rejection.event,), rejection.at)


def oversize(
    arrival: Arrival,
    header: bytes | None,
    limit_octets: int,
    limit_from: LimitFrom,
    next_hop: str | None,
    policy: Policy,
    now: datetime,
) -> Append:
    """Return the append for a message that is too large to be retrieved; `header` is what TOP gave."""
    facts = headers.facts(header or b"")
    routed = routing.recipients(header or b"", arrival.rule)
    event = RejectedOversize(
        mailbox=arrival.mailbox,
        uidl=arrival.uidl,
        size_octets=arrival.listed_octets,
        limit_octets=limit_octets,
        limit_from=limit_from,
        next_hop=next_hop,
        recipient_count=len(routed.addresses),
        policy=policy.version,
        reverse_path=envelope.reverse_path(facts),
        recipients=routed.addresses,
        routed_by=routed.routed_by,
        message_id=facts.message_id,
        subject=policy.on_record(facts.subject),
        from_=facts.sender,
        date=facts.date,
    )
    return Append(new_id(now), None, (event,), now)


def notice(
    kind: ReportKind,
    about: Message,
    written: report.Notice,
    now: datetime,
    numbers: tuple[int, ...] = (),
) -> tuple[Append, Reported]:
    """Return the append that opens a notice's stream, and the event that goes on the message it is about.

    `numbers` are the message's recipients who are told by it.
    """
    opened = generated(kind, about.id, written, now)
    return opened, Reported(kind=kind, report=opened.stream, numbers=numbers)


def generated(
    kind: ReportKind, about: str, written: report.Notice, now: datetime, concerns: str | None = None
) -> Append:
    """Return the append that opens a notice's stream."""
    event = Generated(
        kind=kind,
        about=about,
        concerns=concerns,
        size_octets=len(written.octets),
        content=sha256(written.octets).hexdigest(),
        recipient_count=1,
        recipients=(written.recipient,),
        message_id=written.message_id,
        subject=written.subject,
        from_=written.sender,
        date=written.date,
    )
    return Append(new_id(now), None, (event,), now, written.octets)
