"""May what is personal of a message be erased, and what must happen to it before? Pure.

A message that is still open can't be delivered without its addresses and octets: it is erased only where it is asked for in so
many words, and discarded first.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.policy import Policy
from store.events import Discarded, MessageEvent
from store.life import Message

RULE = "erased before it was delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who erases, and why. `even_open` says that what is open is discarded and erased, too."""

    operator: str
    reason: str
    even_open: bool = False


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
    if not message.open:
        return Going(facts=facts, octets=octets)
    if worked_on and any(r.in_flight for r in message.recipients):
        return Staying(text="it is just being handed over: try again when that is over")
    if not request.even_open:
        return Staying(text=f"it is still open ({message.state}): --even-open discards it first")
    return Going(facts=facts, octets=octets, first=(_discarded(message, request, policy),))


def _discarded(message: Message, request: Request, policy: Policy) -> MessageEvent:
    numbers = tuple(r.number for r in message.recipients if r.open)
    return Discarded(numbers=numbers, operator=request.operator, rule=RULE, policy=policy.version)
