"""Which mail the configuration has held, whatever its route: until a person lets it go on, or until a time.

Pure. What a person let go on, or had delivered again, is not held by a rule any more; nor is what went on at its time. What
the gateway wrote itself never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.core import direct
from engine.core.routing import Routed, fitting
from store.life import Message
from store.recipient import Recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRule:
    """One rule. Patterns as in a route; all that is asked for must fit, also the `next_hop` where it would go.

    It is in force before `until`, and what it holds goes on then; None is for ever, and by hand.
    """

    recipients: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    next_hop: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """These recipients are held by this rule, named so that no address is on record with it."""

    rule: str
    until: datetime | None
    numbers: tuple[int, ...]


def stays(
    message: Message,
    due: Sequence[Recipient],
    routed: Mapping[int, Routed],
    rules: Sequence[HoldRule],
    now: datetime,
) -> Stay | None:
    """Return what is held of a message that would be handed over now, by the first rule that holds anybody; None for nobody."""
    if message.resumed(now) is not None or message.direction == "internal":
        return None
    for number, rule in enumerate(rules, 1):
        if rule.until is not None and rule.until <= now:
            continue
        numbers = tuple(r.number for r in due if _holds(rule, message, r, routed[r.number]))
        if numbers:
            return Stay(rule=f"hold {number}", until=rule.until, numbers=numbers)
    return None


def _holds(rule: HoldRule, message: Message, recipient: Recipient, routed: Routed) -> bool:
    return applies(rule, message.reverse_path, recipient.address, message.user, routed)


def applies(rule: HoldRule, sender: str, recipient: str, user: str | None, routed: Routed) -> bool:
    """Whether a rule is about this mail."""
    there = routed.next_hop or ""
    if rule.next_hop == direct.MX and not direct.is_direct(there):
        return False
    if rule.next_hop not in (None, direct.MX, there):
        return False
    return fitting(rule, sender, recipient, user) is not None
