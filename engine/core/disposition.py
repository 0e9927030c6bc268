"""What a policy makes of one recipient of a message, at one point of its life: where it goes, or why not. Pure.

The same `plan` as the workers', asked about each recipient alone, with the verdicts on record.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from msgspec.structs import replace

from engine.core.plan import HandOver, Record, Rest, Scan, plan
from engine.core.policy import Policy
from store.events import Discarded, Held, MessageEvent, Quarantined, RedeliveryRequested, RejectedOversize
from store.findings import Finding
from store.life import Message, due_at
from store.recipient import Recipient

Verb = Literal["goes", "held", "quarantined", "discarded", "redirected", "scanned", "too large"]


@dataclass(frozen=True, slots=True)
class Disposition:
    """What becomes of a recipient. `what` says it closer: the next hop, the reason, the address, the scanners."""

    verb: Verb
    what: str = ""

    def __str__(self) -> str:
        match self.verb:
            case "goes":
                return f"goes to {self.what}"
            case "held":
                return f"held as {self.what}"
            case "quarantined":
                return f"quarantined ({self.what})"
            case "discarded":
                return "discarded"
            case "redirected":
                return f"redirected to {self.what}"
            case "scanned":
                return f"scanned by {self.what} first"
            case "too large":
                return f"too large for {self.what}"
            case _:
                assert_never(self.verb)


def disposition(
    message: Message, recipient: Recipient, policy: Policy, at: datetime
) -> tuple[Disposition, str] | None:
    """Return what becomes of a recipient that is due, and by which rule; None where nothing is to be decided."""
    only = replace(message, recipients=(recipient,), findings=as_scanned(message, policy))
    due = due_at(recipient, only)
    if due is None:
        return None
    found = _meant(plan(only, policy, max(at, due)))
    if found is not None and found[0] == Disposition("redirected", recipient.address):
        return disposition(message, recipient, _unscanned(policy), at)  # that is where it goes already
    return found


def recorded(event: MessageEvent, following: MessageEvent | None) -> Disposition | None:
    """Return what an event says became of its recipients, where a policy decided that; `following` is the next event."""
    match event:
        case Held(why="unroutable" | "operator", operator=None) if event.numbers:
            return Disposition("held", event.why)
        case Quarantined(operator=None, next_hop=None):
            return Disposition("quarantined", event.reason)
        case Discarded(operator=None):
            if isinstance(following, RedeliveryRequested) and following.rule is not None:
                return Disposition("redirected", following.recipients[-1] if following.recipients else "")
            return Disposition("discarded")
        case RejectedOversize(limit_from="config") if event.numbers:
            return Disposition("too large", event.next_hop or "")
        case _:
            return None


def _meant(step: HandOver | Record | Rest | Scan) -> tuple[Disposition, str] | None:
    match step:
        case HandOver():
            return Disposition("goes", step.next_hop), step.rule
        case Scan():
            return Disposition("scanned", ", ".join(sorted(step.scanners))), "no verdict is on record"
        case Record():
            first, following = (*step.events, None)[:2]
            found = recorded(first, following) if first is not None else None
            return None if first is None or found is None else (found, _rule(first))
        case Rest():
            return None
        case _:
            assert_never(step)


def _rule(event: MessageEvent) -> str:
    if isinstance(event, RejectedOversize):
        return f"next_hop.{event.next_hop}.max_size is {event.limit_octets}"
    return getattr(event, "rule", None) or ""


def _unscanned(policy: Policy) -> Policy:
    return dataclasses.replace(policy, scanners=())


def as_scanned(message: Message, policy: Policy) -> tuple[Finding, ...]:
    """Return the findings as this policy would have them: what it does not ask about for its size is unscannable."""
    found: list[Finding] = []
    for finding in message.findings:
        scanner = policy.scanner(finding.scanner)
        limit = None if scanner is None else scanner.max_size_octets
        if limit is not None and message.size_octets > limit:
            finding = replace(finding, verdict="unscannable", settled=True)  # noqa: PLW2901
        found.append(finding)
    return tuple(found)
