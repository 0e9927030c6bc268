"""What happened, in words: one sentence for each event, to be read behind the event's name.

Every fact of an event that a person may need in a ticket is in its sentence: replies whole, TLS facts, rules. Owns no
decision and no time but those in the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

from cli import mailbox_story, scan_story, times
from store.events import (
    Attempted,
    ContentsPurged,
    Deferred,
    Delivered,
    Discarded,
    Downloaded,
    Erased,
    Event,
    Failed,
    Generated,
    Held,
    Imported,
    Kept,
    KeptNoLonger,
    Quarantined,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Released,
    RemovedFromSource,
    Reported,
    Scanned,
    Submitted,
)

NAMED_RECIPIENTS = 3  # more are counted
REPORT = "; it calls itself a delivery status notification"


def sentence(event: Event, at: datetime, recipients: Sequence[str] | None = None) -> str:
    """Return what happened, to stand right behind the event's name.

    `at` is when. `recipients` are the addresses of all that the message has, None where they aren't known.
    """
    if isinstance(event, mailbox_story.Happening):
        return mailbox_story.happened(event)
    match event:
        case Downloaded():
            return _downloaded(event)
        case Submitted():
            return _submitted(event)
        case Imported():
            return _imported(event)
        case RejectedOversize():
            return _oversize(event)
        case Generated():
            return f": a notice ({event.kind}){_about(event)}{_for(event.recipients)}"
        case Scanned():
            return scan_story.scanned(event, _then(event.retry_at, at) if event.retry_at else "")
        case Quarantined():
            who = _who(event.numbers, event.recipients, recipients) if event.numbers else ""
            return scan_story.quarantined(event, who)
        case RedeliveryRequested():
            return scan_story.requested_again(event, _for(event.recipients))
        case Held():
            return _held(event, at, recipients)
        case Released():
            return _released(event, recipients)
        case Discarded():
            who = _who(event.numbers, event.recipients, recipients)
            by = _by(event.operator) if event.operator or not event.rule else ""
            return f"{by}{who}{_because(event.reason or event.rule or '')}"
        case Attempted():
            who = _who(event.numbers, event.recipients, recipients)
            rule = f", by {event.rule}" if event.rule else ""  # erased
            how = f"attempt {event.attempt}{rule}{scan_story.told(event)}"
            return f" to hand over to {event.next_hop}{who}: {how}"
        case Delivered() | Relayed():
            return _accepted(event, recipients)
        case Deferred():
            return _deferred(event, at, recipients)
        case Failed():
            return _failed(event, recipients)
        case Reported():
            who = _who(event.numbers, (), recipients) if event.numbers else ""
            return f"{who} by a notice ({event.kind}), message {event.report}"
        case ContentsPurged():
            return f": the octets are no longer kept, by {event.reason}"
        case Kept():
            return f" from retention and erasure{_by(event.operator)}{_because(event.reason)}"
        case KeptNoLonger():
            return f": left to retention again{_by(event.operator)}{_because(event.reason)}"
        case Erased():
            return _erased(event)
        case RemovedFromSource():
            how = "+OK to QUIT after DELE" if event.confirmed_by == "quit" else "it is no longer listed"
            return f": mailbox {event.mailbox} no longer holds UIDL {event.uidl} ({how})"
        case _:
            assert_never(event)


def said(code: int | None, reply: str | None) -> str:
    """Return a reply with its code; "" where there was none."""
    text = reply or ""
    if code is None or text.startswith(str(code)):
        return text
    return f"{code} {text}".rstrip()


def policy_of(event: Event) -> str | None:
    """Return the policy version that an event names."""
    version: str | None = getattr(event, "policy", None)
    return version


def secured(tls: str) -> str:
    """Return how a connection was protected, in words."""
    if tls == "none" or tls.startswith("none "):
        return f"without TLS{tls.removeprefix('none')}"
    return f"over {tls}"


def _downloaded(event: Downloaded) -> str:
    mended = "; a lone CR or LF in it goes out as CRLF" if event.bare_newlines else ""
    text = f" from mailbox {event.mailbox}, UIDL {event.uidl or 'none'}: {times.size(event.size_octets)}"
    report = REPORT if event.status_report else ""
    came = f"; it came to the provider from {event.client_ip}" if event.client_ip else ""
    return text + _routed(event.recipient_count, event.recipients, event.routed_by) + came + mended + report


def _submitted(event: Submitted) -> str:
    text = f" by {_client(event)} by {event.protocol} {secured(event.tls)}: {times.size(event.size_octets)}"
    mended = "; a lone CR or LF in it goes out as CRLF" if event.bare_newlines else ""
    report = REPORT if event.status_report else ""
    return text + _routed(event.recipient_count, event.recipients, ()) + mended + report


def _imported(event: Imported) -> str:
    mended = "; a lone CR or LF in it goes out as CRLF" if event.bare_newlines else ""
    report = REPORT if event.status_report else ""
    why = f" ({event.reason})" if event.reason else ""
    text = f" from {event.file or 'a file'}{_by(event.operator)}{why}"
    routed = _routed(event.recipient_count, event.recipients, ())
    return f"{text}: {times.size(event.size_octets)}{routed}{mended}{report}"


def _client(event: Submitted | RejectedOversize) -> str:
    """Who handed it in, or wanted to."""
    who = event.peer or "a client whose address was erased"
    return who + (f" ({event.helo})" if event.helo else "") + (f" as user {event.user}" if event.user else "")


def _oversize(event: RejectedOversize) -> str:
    limit = times.size(event.limit_octets)
    if event.limit_from == "listener":
        text = f": {times.size(event.size_octets)}, and the listener takes {limit} at most; {_client(event)} was told"
        named = event.recipient_count or event.recipients
        return text + (_routed(event.recipient_count, event.recipients, ()) if named else "")
    if event.numbers and not event.tried:
        by = "max_size of" if event.limit_from == "config" else "EHLO of"
        return f": {times.size(event.size_octets)}, and {by} {event.next_hop or 'the next hop'} allows {limit} at most; not sent"
    if event.numbers or event.mailbox is None:
        return f": {event.next_hop or 'the next hop'} refused it for its size: {event.reply or 'no reply'}"
    whose = (
        "the configuration allows"
        if event.limit_from == "config"
        else f"{event.next_hop or 'the next hop'} takes"
    )
    text = f": {times.size(event.size_octets)}, and {whose} {limit}"
    place = f" at most; not fetched from mailbox {event.mailbox}, UIDL {event.uidl or 'none'}"
    return text + place + _routed(event.recipient_count, event.recipients, event.routed_by)


def _routed(count: int, addresses: tuple[str, ...], by: tuple[str, ...]) -> str:
    """For whom, and by which rule; recipients of one rule stand together."""
    if not count:
        return ", for nobody"
    if not addresses:
        whose = "1 recipient whose address was" if count == 1 else f"{count} recipients whose addresses were"
        return f", for {whose} erased"
    rules: dict[str, list[str]] = {}
    for number, address in enumerate(addresses):
        rules.setdefault(by[number] if number < len(by) else "", []).append(address)
    return ", for " + "; ".join(
        ", ".join(those) + (f" (by {rule})" if rule else "") for rule, those in rules.items()
    )


def _about(event: Generated) -> str:
    """What it is about: the daily report is about nothing in particular."""
    what = f" about {event.concerns}" if event.concerns else ""
    return what + (f"{',' if what else ' about'} message {event.about}" if event.about else "")


def _held(event: Held, at: datetime, recipients: Sequence[str] | None) -> str:
    until = f", until {_then(event.until, at)}" if event.until else ""
    if event.operator is None and event.why != "operator":
        return f" as {event.why}: {event.rule}{until}"
    who = _who(event.numbers, (), recipients) if event.numbers else ""
    if event.operator is None:
        return f" by the configuration{who}: {event.rule}{until}"
    return f"{_by(event.operator)}{who}{until}{_because(event.reason)}"


def _released(event: Released, recipients: Sequence[str] | None) -> str:
    if event.routed_by:
        who = _routed(len(event.numbers), event.recipients, event.routed_by).removeprefix(",")
    else:
        who = _who(event.numbers, event.recipients, recipients) if event.numbers else ""
    return f"{_by(event.operator)}{who}{_because(event.reason)}"


def _erased(event: Erased) -> str:
    count = len(event.revisions)
    facts = f"the personal facts of {count} {'event' if count == 1 else 'events'}"
    octets = " and the octets" if event.octets else ""
    return f"{_by(event.operator)}: {facts}{octets} are gone{_because(event.reason)}"


def _by(operator: str | None) -> str:
    return f" by {operator or 'a person'}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _accepted(event: Delivered | Relayed, recipients: Sequence[str] | None) -> str:
    who = _who(event.numbers, event.recipients, recipients)
    if isinstance(event, Delivered) and event.report is not None:
        return f"{who}, as report {event.report} says, which came back later: {said(event.code, event.reply)}"
    took = times.span(timedelta(milliseconds=event.duration_ms))
    where = f" to {event.next_hop} at {event.address}{who}"
    dsn = f"; from here on {event.next_hop} reports on it" if event.dsn else ""
    return f"{where}, in {took} {secured(event.tls)}: {said(event.code, event.reply)}{dsn}"


def _deferred(event: Deferred, at: datetime, recipients: Sequence[str] | None) -> str:
    who = _who(event.numbers, event.recipients, recipients)
    reply = said(event.code, event.reply)
    until = f"{who} until {_then(event.retry_at, at)}"
    if not event.tried:
        return f"{until}, untried: {reply}"
    if event.unknown:
        doubt = f"nobody knows whether {event.next_hop} took it, so the next attempt may make a duplicate"
        return f"{until}: {doubt}: {reply}"
    if event.scope == "next-hop":
        return f"{until}, {event.next_hop} as a whole is in trouble: {reply}"
    return f"{until} by {event.next_hop}: {reply}"


def _failed(event: Failed, recipients: Sequence[str] | None) -> str:
    who = _who(event.numbers, event.recipients, recipients)
    if event.reason == "operator":
        return f"{_by(event.operator)}{who}: no further try{_because(event.comment)}"
    reply = said(event.code, event.reply)
    reason = {
        "rejected": f"rejected by {event.next_hop}",
        "expired": "given up",
        "bounced-later": f"{event.next_hop} took it, and report {event.report or '(unknown)'} came back later",
    }[event.reason]
    return f"{who}: {reason}" + (f": {reply}" if reply else "")


def _who(numbers: tuple[int, ...], addresses: tuple[str, ...], recipients: Sequence[str] | None) -> str:
    """For whom, where that isn't clear: nothing for all of them."""
    if recipients is not None and len(numbers) == len(recipients):
        return "" if len(numbers) < 2 else f" for all {len(numbers)} recipients"
    return _for(addresses or tuple(_address(number, recipients or ()) for number in numbers))


def _address(number: int, recipients: Sequence[str]) -> str:
    known = recipients[number] if number < len(recipients) else ""
    return known or f"recipient {number + 1}"


def _for(addresses: tuple[str, ...]) -> str:
    if not addresses:
        return ""
    more = len(addresses) - NAMED_RECIPIENTS
    return f" for {', '.join(addresses[:NAMED_RECIPIENTS])}" + (f" and {more} more" if more > 0 else "")


def _then(when: datetime, at: datetime) -> str:
    """A time to come, the day only where it is another, and how long until then; it may be just past when it is on record."""
    text = times.stamp(when) if times.day(when) != times.day(at) else times.clock(when)[:8]
    later = f"{times.span(when - at)} later" if when - at >= timedelta(milliseconds=1) else "at once"
    return f"{text} ({later})"
