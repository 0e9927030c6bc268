"""May what is personal of a message be erased, and what must happen to it before? Pure.

A message that is still open can't be delivered without its addresses and octets: it is erased only where it is asked for in so
many words, and discarded first. Likewise one that a person said is to be kept: which of the two weighs more, a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.policy import Policy
from store.events import Discarded, KeptNoLonger, MessageEvent
from store.life import Message

RULE = "erased before it was delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who erases, and why. `even_open`: what is open is discarded and erased, too; `even_kept`: also what is to be kept."""

    operator: str
    reason: str
    even_open: bool = False
    even_kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """It is erased: so many events' personal facts, and the octets if they are here; `first` comes before, in the log."""

    facts: int
    octets: bool
    first: tuple[MessageEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """It is left as it is: the text goes on where the message's id and a colon stop. `done` where nothing is left to erase."""

    text: str
    done: bool = False


Answer = Going | Staying


def ask(
    message: Message, request: Request, policy: Policy, *, worked_on: bool, facts: int, octets: bool
) -> Answer:
    """Return what a request comes to.

    `worked_on` says that a gateway that lives holds the message; `facts` counts its events with personal facts, `octets`
    says whether its octets are here.
    """
    if not facts and not octets:
        return Staying(text="nothing personal of it is left", done=True)
    if message.exempt_since is not None and not request.even_kept:
        return Staying(text=_kept(message))
    ended = _ended(message, request, policy)
    if not message.open:
        return Going(facts=facts, octets=octets, first=ended)
    if worked_on and any(r.in_flight for r in message.recipients):
        return Staying(text="it is just being handed over: try again when that is over")
    if not request.even_open:
        return Staying(text=f"it is still open ({message.state}): --even-open discards it first")
    return Going(facts=facts, octets=octets, first=(*ended, _discarded(message, request, policy)))


def _kept(message: Message) -> str:
    why = f" ({message.exempt_for})" if message.exempt_for else ""
    by = f"since {message.exempt_since:%Y-%m-%d} by {message.exempt_by}{why}"
    return f"it is to be kept, {by}: 'audit retention --no-keep' ends that, or --even-kept erases it all the same"


def _ended(message: Message, request: Request, policy: Policy) -> tuple[MessageEvent, ...]:
    """That it is to be kept ends with it, on record."""
    if message.exempt_since is None:
        return ()
    return (KeptNoLonger(operator=request.operator, policy=policy.version),)


def _discarded(message: Message, request: Request, policy: Policy) -> MessageEvent:
    numbers = tuple(r.number for r in message.recipients if r.open)
    return Discarded(numbers=numbers, operator=request.operator, rule=RULE, policy=policy.version)
