"""What opens a message's stream: an id of its own, the hash of its octets, what its header says, who gets it.

Reads octets and policy, and touches no store: what a client handed in is opened by the process that listens, and kept by
the one that has the store.
"""

from __future__ import annotations

import asyncio
import random
import re
from datetime import datetime
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct

from engine.core import envelope, headers, ids, routing, trace
from engine.core.headers import HeaderFacts
from engine.core.policy import Policy
from engine.core.routing import Recipients
from engine.ports import Octets, Submission
from store.events import Direction, Held, RejectedOversize, Submitted

HASH_ASIDE_OCTETS = 1 << 20  # a larger message is hashed in a thread: a millisecond and more on the loop

_LONE_CR = re.compile(rb"\r(?!\n)")


class Opening(Struct, frozen=True):
    """How the stream of a submitted message begins. `held` where it goes no further by itself."""

    stream: Annotated[str, Meta(pattern=f"^[{ids.ALPHABET}]{{{ids.LENGTH}}}$")]
    at: Annotated[datetime, Meta(tz=True)]
    submitted: Submitted
    held: Held | None = None

    @property
    def events(self) -> tuple[Submitted] | tuple[Submitted, Held]:
        """The first events, in order."""
        return (self.submitted,) if self.held is None else (self.submitted, self.held)


class Rejection(Struct, frozen=True):
    """The stream of a message that was too large for the listener: it begins and ends with this event."""

    stream: Annotated[str, Meta(pattern=f"^[{ids.ALPHABET}]{{{ids.LENGTH}}}$")]
    at: Annotated[datetime, Meta(tz=True)]
    event: RejectedOversize


async def opening_of(submission: Submission, octets: Octets, policy: Policy, now: datetime) -> Opening:
    """Return how the stream of a message begins that a client handed us."""
    facts = headers.facts(octets)
    recipients = Recipients(addresses=submission.recipients)
    submitted = Submitted(
        direction=direction(submission.recipients, policy),
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
        status_report=status_report(facts, submission.reverse_path),
        pushed=submission.pushed,
        next_hop=next_hop(submission.reverse_path, recipients, policy, submission.user),
        policy=policy.version,
        peer=submission.peer,
        helo=submission.helo,
        user=submission.user,
        reverse_path=submission.reverse_path,
        recipients=submission.recipients,
        orcpt=submission.orcpt,
        envid=submission.envid,
        message_id=facts.message_id,
        subject=policy.on_record(facts.subject),
        from_=facts.sender,
        date=facts.date,
    )
    return Opening(new_id(now), now, submitted, held(facts, octets, recipients, policy))


def rejection_of(
    submission: Submission, size_octets: int, limit_octets: int, header: Octets, policy: Policy, now: datetime
) -> Rejection:
    """Return what goes on record of a message that is too large for the listener. `header` is how it began, if it did."""
    facts = headers.facts(header)
    event = RejectedOversize(
        direction=direction(submission.recipients, policy),
        size_octets=size_octets,
        limit_octets=limit_octets,
        limit_from="listener",
        recipient_count=len(submission.recipients),
        policy=policy.version,
        peer=submission.peer,
        helo=submission.helo,
        user=submission.user,
        reverse_path=submission.reverse_path,
        recipients=submission.recipients,
        message_id=facts.message_id,
        subject=policy.on_record(facts.subject),
        from_=facts.sender,
        date=facts.date,
    )
    return Rejection(new_id(now), now, event)


def direction(recipients: tuple[str, ...], policy: Policy) -> Direction:
    """Return inbound where every recipient is of our own domains; where none was named yet, nobody can know."""
    own = (any(envelope.matches(pattern, address) for pattern in policy.domains) for address in recipients)
    return "inbound" if recipients and all(own) else "outbound"


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
    # Each CR has an LF behind it, and there are no more: faster than to count the pairs.
    return whole.count(b"\n") != whole.count(b"\r") or _LONE_CR.search(whole) is not None


def next_hop(reverse_path: str, routed: Recipients, policy: Policy, user: str | None = None) -> str | None:
    """Where it waits for its first attempt: with the mail of the same next hop, so that a slow one holds up only its own.

    None where its recipients have several: none of them must wait for another's.
    """
    return routing.shared(
        routing.next_hop(reverse_path, address, user, policy.routes, policy.domains).next_hop
        for address in routed.addresses
    )


def status_report(facts: HeaderFacts, reverse_path: str) -> bool:
    """Whether it passes for a delivery status notification: who writes those takes no answer (RFC 3464 section 2)."""
    return facts.status_report and (not reverse_path or facts.auto_submitted)


def held(facts: HeaderFacts, octets: Octets, routed: Recipients, policy: Policy) -> Held | None:
    """Why it goes no further by itself: nobody gets it, or it goes round in a loop. None where it does."""
    if routed.held is not None:
        return Held(why="unroutable", rule=routed.held, policy=policy.version)
    loop = trace.loops(octets, policy.hostname) if facts.received_count > 1 else None
    return None if loop is None else Held(why="loop", rule=loop, policy=policy.version)
