"""What it means to deliver a message again: to whom, through which next hop, and who is left out.

`ask` looks at a message as it stands and returns the event of a request, with whom it leaves out and why; or why nothing can
be done. Pure. Whoever has a positive answer on record is never sent to again unless the request says so by force. The same
request concerns a message once: its id is on the message from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from engine.core.plan import no_octets
from engine.core.policy import Policy
from engine.core.routing import asked_for, next_hop, shared
from store.events import RedeliveryRequested
from store.life import Message
from store.mailbox_life import Known
from store.recipient import Recipient

HAS_IT = "has it already: --force sends it again"
UNDER_WAY = "is just being handed over"
HELD = "is held: 'mailgate release' lets it go on"
HELD_BY_A_PERSON = (
    "a person or a rule holds it: 'mailgate release' lets it go on, --force sends it all the same"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for. `recipients` are addresses that get it instead of its own; empty for its own.

    `next_hop` takes it in place of the one that the routes name. With `force` also those get it that have it.
    """

    replay: str
    operator: str
    reason: str = ""
    next_hop: str | None = None
    recipients: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """It can be delivered again, by appending this event.

    `to` has the address and the next hop, None for no route, of each who gets it; `left_out` who does not, and why;
    `doubtful` who may have it: nobody knows. With `fetched` it was never here, and is fetched from its mailbox first.
    """

    event: RedeliveryRequested
    to: tuple[tuple[str, str | None], ...]
    left_out: tuple[tuple[str, str], ...] = ()
    doubtful: tuple[str, ...] = ()
    fetched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Nothing is to be done: the text goes on where the message's id and a colon stop. `repeated` where it was done before.

    `of_many` says it of any number of messages alike, where the text names another one.
    """

    text: str
    of_many: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    repeated: bool = False


Answer = Again | Nothing


def ask(
    message: Message,
    request: Request,
    policy: Policy,
    *,
    worked_on: bool,
    kept: bool,
    before: str | None = None,
    later: Known | None = None,
) -> Answer:
    """Return what a request comes to.

    `worked_on` says that a gateway that lives holds the message; `kept` that its octets are there. `before` is an earlier
    message with the same UIDL that the same replay asked for: this one is what came of it. `later` is a later one: it is as
    what this one came, or was found too large again.
    """
    if request.replay in message.replays:
        return Nothing(text=f"it is part of replay {request.replay} already", repeated=True)
    if message.content is None and before is not None:
        text = f"it is what came of replay {request.replay}"
        return Nothing(text=f"{text}, which asked for {before}", of_many=text, repeated=True)
    if message.content is None:
        return _never_here(message, request, policy, later)
    if not kept:
        return Nothing(text=no_octets(message))
    if request.recipients:
        return _to_others(message, request, policy, worked_on=worked_on)
    return _to_its_own(message, request, policy, worked_on=worked_on)


def _never_here(message: Message, request: Request, policy: Policy, later: Known | None) -> Answer:
    """It was too large to be fetched: as long as the mailbox has it, it can be."""
    if message.mailbox is None:
        return Nothing(text="it never was here: its client was told that it is too large, and has it still")
    if later is not None and later.content is not None:
        state = f"({later.state})"
        return Nothing(text=f"it came as message {later.stream} {state}", of_many=f"it came later {state}")
    if later is not None:
        again = "it was found too large again"
        return Nothing(
            text=f"{again}, as message {later.stream}: replay that one",
            of_many=f"{again}, as another message: replay that one",
        )
    if message.removed:
        return Nothing(text="it was never fetched, and its mailbox no longer has it")
    if request.recipients or request.next_hop:
        return Nothing(
            text="it was never fetched: replay it without --to and --recipients, and then what comes of it"
        )
    event = _event(request, policy)
    to = tuple((r.address, None) for r in message.recipients)
    return Again(event=event, to=to, fetched=True)


def _to_others(message: Message, request: Request, policy: Policy, *, worked_on: bool) -> Answer:
    """Those named get it. Who is a recipient already stays the same one, and is left out for the same reasons."""
    if not request.force and _held_by_a_person(message):
        return Nothing(text=HELD_BY_A_PERSON)
    own: list[Recipient] = []
    others: list[str] = []
    left_out: list[tuple[str, str]] = []
    for address in {one.lower(): one for one in request.recipients}.values():
        its = [r for r in message.recipients if r.address.lower() == address.lower()]
        why = next((why for r in its if (why := _why_not(r, request, worked_on=worked_on))), None)
        if why is not None:
            left_out.append((address, why))
        elif its:
            own.append(its[0])
        else:
            others.append(address)
    if not (own or others):
        return Nothing(text="nobody is left to get it", left_out=tuple(left_out))
    to = tuple((a, _hop(message, a, request, policy)) for a in (*(r.address for r in own), *others))
    return Again(
        event=_event(request, policy, own=own, others=tuple(others), to=to),
        to=to,
        left_out=tuple(left_out),
        doubtful=tuple(_name(r) for r in own if r.state == "outcome-unknown"),
    )


def _held_by_a_person(message: Message) -> bool:
    if not message.recipients:
        return message.open and message.held_why == "operator"
    return any(r.open and r.held_why == "operator" for r in message.recipients)


def _to_its_own(message: Message, request: Request, policy: Policy, *, worked_on: bool) -> Answer:
    if not message.recipients:
        return Nothing(text="it names no recipient: say who gets it by --recipients")
    out = {r.number: why for r in message.recipients if (why := _why_not(r, request, worked_on=worked_on))}
    left_out = tuple((_name(r), out[r.number]) for r in message.recipients if r.number in out)
    chosen = [r for r in message.recipients if r.number not in out]
    if not chosen:
        return Nothing(text="nobody is left to get it", left_out=left_out)
    to = tuple((_name(r), _hop(message, r.address, request, policy)) for r in chosen)
    return Again(
        event=_event(request, policy, own=chosen, to=to),
        to=to,
        left_out=left_out,
        doubtful=tuple(_name(r) for r in chosen if r.state == "outcome-unknown"),
    )


def _why_not(recipient: Recipient, request: Request, *, worked_on: bool) -> str | None:
    match recipient.state:
        case "delivered" | "relayed":
            return None if request.force else HAS_IT
        case "held":
            return HELD
        case "outcome-unknown":
            if recipient.in_flight and worked_on:
                return UNDER_WAY
            return HELD if recipient.held else None
        case "received" | "deferred" | "quarantined" | "failed" | "rejected-oversize" | "discarded":
            return None if recipient.address else "was erased"
        case _:
            assert_never(recipient.state)


def _event(
    request: Request,
    policy: Policy,
    *,
    own: Sequence[Recipient] = (),
    others: tuple[str, ...] = (),
    to: tuple[tuple[str, str | None], ...] = (),
) -> RedeliveryRequested:
    return RedeliveryRequested(
        numbers=tuple(r.number for r in own),
        added=len(others),
        next_hop=request.next_hop,
        bound_for=shared(hop for _, hop in to),
        force=request.force,
        replay=request.replay,
        operator=request.operator,
        policy=policy.version,
        recipients=(*(r.address for r in own), *others),
        reason=request.reason,
    )


def _hop(message: Message, address: str, request: Request, policy: Policy) -> str | None:
    if request.next_hop is not None:
        return asked_for(address, request.next_hop, policy.domains).next_hop
    return next_hop(message.reverse_path, address, message.user, policy.routes, policy.domains).next_hop


def _name(recipient: Recipient) -> str:
    return recipient.address or f"recipient {recipient.number + 1} (erased)"
