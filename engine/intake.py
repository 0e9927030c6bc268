"""The one door in: octets, first event and due time become one unit of the journal.

Reads header facts from the octets, decides recipients, sees loops. Nothing is ever dropped here: what can't be
routed is kept and held, with the reason.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from engine.core import envelope, headers, ids, report, routing, trace
from engine.core.headers import HeaderFacts
from engine.core.policy import Policy
from engine.core.routing import MailboxRule, Recipients
from engine.ports import Octets, Submission
from store.events import (
    Downloaded,
    Event,
    Generated,
    Held,
    LimitFrom,
    RejectedOversize,
    Reported,
    ReportKind,
    Submitted,
)
from store.life import Message
from store.log import Append

HASH_ASIDE_OCTETS = 1 << 20  # a larger message is hashed in a thread: a millisecond and more on the loop


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
        next_hop=_next_hop(reverse_path, routed, policy),
        status_report=_status_report(facts, reverse_path),
        policy=policy.version,
        reverse_path=reverse_path,
        recipients=routed.addresses,
        routed_by=routed.routed_by,
        message_id=facts.message_id,
        subject=facts.subject,
        from_=facts.sender,
        date=facts.date,
        client_ip=facts.client_ip,
    )
    held = _held(facts, octets, routed, policy)
    events: tuple[Event, ...] = (opening,) if held is None else (opening, held)
    return Append(new_id(now), None, events, now, octets)


async def submitted(submission: Submission, octets: Octets, policy: Policy, now: datetime) -> Append:
    """Return the append that opens the stream of a message a client handed us."""
    facts = headers.facts(octets)
    recipients = Recipients(addresses=submission.recipients)
    own = (
        any(envelope.matches(pattern, address) for pattern in policy.domains)
        for address in submission.recipients
    )
    opening = Submitted(
        direction="inbound" if all(own) else "outbound",
        protocol=submission.protocol,
        tls=submission.tls,
        size_octets=len(octets),
        content=await digest(octets),
        bare_newlines=has_bare_newlines(octets),
        recipient_count=len(submission.recipients),
        notify=submission.notify,
        ret=submission.ret,
        smtputf8=submission.smtputf8,
        automatic=facts.auto_submitted or facts.list_id,
        status_report=_status_report(facts, submission.reverse_path),
        next_hop=_next_hop(submission.reverse_path, recipients, policy, submission.user),
        policy=policy.version,
        peer=submission.peer,
        helo=submission.helo,
        user=submission.user,
        reverse_path=submission.reverse_path,
        recipients=submission.recipients,
        orcpt=submission.orcpt,
        envid=submission.envid,
        message_id=facts.message_id,
        subject=facts.subject,
        from_=facts.sender,
        date=facts.date,
    )
    held = _held(facts, octets, recipients, policy)
    events: tuple[Event, ...] = (opening,) if held is None else (opening, held)
    return Append(new_id(now), None, events, now, octets)


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
        subject=facts.subject,
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
    event = Generated(
        kind=kind,
        about=about.id,
        size_octets=len(written.octets),
        content=sha256(written.octets).hexdigest(),
        recipient_count=1,
        recipients=(written.recipient,),
        message_id=written.message_id,
        subject=written.subject,
        from_=written.sender,
        date=written.date,
    )
    opened = Append(new_id(now), None, (event,), now, written.octets)
    return opened, Reported(kind=kind, report=opened.stream, numbers=numbers)


def new_id(now: datetime) -> str:
    """Return a fresh message id."""
    return ids.message_id(now, random.getrandbits(ids.RANDOM_BITS))


async def digest(octets: Octets) -> str:
    """Return the sha256 of the octets, hex."""
    if len(octets) > HASH_ASIDE_OCTETS:
        return await asyncio.to_thread(lambda: sha256(octets).hexdigest())
    return sha256(octets).hexdigest()


def has_bare_newlines(octets: Octets) -> bool:
    """Whether there is a CR or LF that is not part of a CRLF."""
    whole = octets if isinstance(octets, bytes | bytearray) else bytes(octets)
    ends = len(whole) - len(whole.translate(None, b"\r\n"))  # a third faster than to count each kind
    return ends != 2 * whole.count(b"\r\n")


def _next_hop(reverse_path: str, routed: Recipients, policy: Policy, user: str | None = None) -> str | None:
    """Where it waits for its first attempt: with the mail of the same next hop, so that a slow one holds up only its own.

    None where its recipients have several: none of them must wait for another's.
    """
    hops = {
        routing.next_hop(reverse_path, address, user, policy.routes, policy.domains).next_hop
        for address in routed.addresses
    }
    return hops.pop() if len(hops) == 1 else None


def _status_report(facts: HeaderFacts, reverse_path: str) -> bool:
    """Whether it passes for a delivery status notification: who writes those takes no answer (RFC 3464 section 2)."""
    return facts.status_report and (not reverse_path or facts.auto_submitted)


def _held(facts: HeaderFacts, octets: Octets, routed: Recipients, policy: Policy) -> Held | None:
    if routed.held is not None:
        return Held(why="unroutable", rule=routed.held, policy=policy.version)
    loop = trace.loops(octets, policy.hostname) if facts.received_count > 1 else None
    return None if loop is None else Held(why="loop", rule=loop, policy=policy.version)
