"""What in the configuration decides how it goes on with a message: the keys that a person would change.

Current policy always decides, so that what is changed here also goes for what waits already.
"""

from __future__ import annotations

from collections.abc import Iterator

from cli import times
from engine.core import direct
from engine.core.plan import HandOver, Scan, Step
from engine.core.policy import HopPolicy, Policy
from store.life import Message


def levers(message: Message, step: Step, policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the keys that decide here, each with what it does."""
    if message.state == "rejected-oversize":
        yield "next_hop.NAME.max_size", "what is taken at most, if the server itself takes as much"
    elif message.open:
        yield from _waiting(message, step, policy)


def _waiting(message: Message, step: Step, policy: Policy) -> Iterator[tuple[str, str]]:
    if message.state == "quarantined":
        yield from _quarantined(message)
    elif message.held_why == "unroutable":
        yield from _unroutable(message)
    elif message.held_why == "operator" and policy.holds:
        yield "[[hold]]", "what is held from now on; this one waits for its time, or for a person"
    elif message.state == "outcome-unknown":
        yield from _unknown(message, policy)
    elif isinstance(step, Scan) and any(f.awaited and f.scanner in step.scanners for f in message.findings):
        yield "[[scanner]] on_error", '"pass" lets it go on unscanned where the scanner fails'
    elif isinstance(step, Scan | HandOver) and message.state == "deferred":
        yield (
            "retry.first and retry.cap",
            f"how often: {times.span(policy.first)}, doubled up to {times.span(policy.cap)}",
        )
        yield "retry.give_up_after", f"how long: {times.span(policy.give_up_after)}"
        going = [
            r for r in message.recipients if r.open and (isinstance(step, Scan) or r.number in step.numbers)
        ]
        if any(one.via is None for one in going):
            yield "[[route]]", "where it goes: another next hop is taken at the next attempt"


def _quarantined(message: Message) -> Iterator[tuple[str, str]]:
    if message.quarantined_why == "refused-as-spam":
        yield "next_hop.NAME.spam_refusals", "which refusals mean spam"
    else:
        yield (
            "[[scanner]] on_found and threshold",
            "what is kept back from now on; this one waits for a person",
        )


def _unroutable(message: Message) -> Iterator[tuple[str, str]]:
    if not message.recipients:
        yield (
            f"fallback of [[mailbox]] {message.mailbox or ''}".rstrip(),
            "who gets what names nobody, from now on",
        )
    else:
        yield "[[route]] and gateway.domains", "where its recipients go; then release it"


def _unknown(message: Message, policy: Policy) -> Iterator[tuple[str, str]]:
    for hop in sorted(
        {one.next_hop for one in message.recipients if one.state == "outcome-unknown" and one.next_hop}
    ):
        decided = (policy.hop(hop) or HopPolicy()).on_unknown
        other = (
            '"hold" keeps it for a person' if decided == "retry" else '"retry" sends it again, maybe twice'
        )
        name = direct.MX if direct.is_direct(hop) else hop
        yield f"next_hop.{name}.on_unknown", f'is "{decided}"; {other}'
