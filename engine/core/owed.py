"""Which reports what happened to a message calls for, and of whom they speak (RFC 3461). Pure.

Told is whoever handed us a message by SMTP. Nobody is told of mail from the null reverse-path, for a report about a report
would loop: it stays on record as `failed`, which is what Postfix makes of it too. A machine or a mailing list is told what failed
like anybody (RFC 5321 section 6.1), for it may strike that recipient off, and what waits only where it asked for that. The
outside sender of mail for our own domains is never told that it failed: the address is often forged. One of ours is, where a
client that may relay handed it in: whoever misspells a colleague's address has to know. To whom a verdict redirected a message is
no matter of its sender's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from engine.core import envelope
from engine.core.policy import Policy
from store.events import Deferred, Delivered, Failed, MessageEvent, RejectedOversize, Relayed, Scanned
from store.life import Message
from store.recipient import BY_CLIENT, BY_FILE, BY_REPLAY, Recipient

BY_HAND = "an administrator decided that it is not tried again"
UNSCANNED = "it waits here until it can be scanned for viruses and spam"

Kind = Literal["failure", "delay", "success"]
Wish = Literal["FAILURE", "DELAY", "SUCCESS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What is to be told of one recipient.

    `reply` is what was said last, by the server at `address` ("192.0.2.1:25", "" for nobody) or by ourselves.
    """

    recipient: Recipient
    reply: str
    address: str = ""
    expired: bool = False
    too_large: bool = False
    by_hand: bool = False  # a person gave it up; the reason given is for the house, not for the sender
    home: bool = False  # our own mail server took it


Owed = dict[Kind, tuple[Fate, ...]]


def owed(after: Message, events: Iterable[MessageEvent], policy: Policy, now: datetime) -> Owed:
    """Return what is to be reported of these events on a message; `after` is the message with them."""
    if not after.protocol:
        return {}
    happened = tuple(events)
    found: Owed = {"success": tuple(_successes(after, happened, policy))}
    if of_ours(after, policy):
        found["failure"] = tuple(_failures(after, happened))
    if after.direction == "outbound":
        found["delay"] = tuple(_delays(after, happened, policy, now))
    called_for = {kind: fates for kind, fates in found.items() if fates}
    return called_for if called_for and silence(after) is None else {}


def of_ours(message: Message, policy: Policy) -> bool:
    """Whether its sender hears of what fails, and not the postmaster: it goes out, or is from one of ours to others of ours."""
    if message.direction != "inbound":
        return message.direction == "outbound"
    vouched_for = bool(message.protocol) and not message.pushed
    return vouched_for and any(envelope.matches(own, message.reverse_path) for own in policy.domains)


def silence(message: Message) -> str | None:
    """Return why nobody is told what becomes of a message; None where somebody is."""
    if not message.reverse_path:
        return "it has the null reverse-path"
    if not envelope.valid(message.reverse_path):
        return "its reverse-path is no address"
    return None


def untold(message: Message) -> str:
    """Return why nobody is told of what failed of a message."""
    failed = [r for r in message.recipients if r.state in ("failed", "rejected-oversize")]
    if (why := silence(message)) is not None:
        return why
    away = message.protocol and failed and all(_redirected(r) for r in failed)
    return "a verdict redirected it" if away else "the client asked for no report"


def wanted(message: Message, recipient: Recipient, wish: Wish) -> bool:
    """Whether RCPT asked for this report; where it said nothing, of a failure, and a person of a delay (RFC 3461 section 4.1)."""
    if _redirected(recipient):
        return False
    if not recipient.notify:
        return wish == "FAILURE" or (wish == "DELAY" and not message.automatic)
    return wish in recipient.notify.upper().split(",")


def _failures(after: Message, events: tuple[MessageEvent, ...]) -> Iterable[Fate]:
    for event in events:
        match event:
            case Failed() if event.reason != "bounced-later":  # then the report that says so tells it
                for one in _those(after, event.numbers, "FAILURE"):
                    yield Fate(
                        recipient=one,
                        reply=event.reply or (BY_HAND if event.reason == "operator" else ""),
                        address=event.address,
                        expired=event.reason == "expired",
                        by_hand=event.reason == "operator",
                    )
            case RejectedOversize():
                every = tuple(r.number for r in after.recipients if r.state == "rejected-oversize")
                for one in _those(after, event.numbers or every, "FAILURE"):
                    yield Fate(recipient=one, reply=event.reply or "", too_large=True)
            case _:
                pass


def _delays(
    after: Message, events: tuple[MessageEvent, ...], policy: Policy, now: datetime
) -> Iterable[Fate]:
    """Once for each message, of all that wait then."""
    deferred = [event for event in events if isinstance(event, Deferred)]
    unscanned = any(isinstance(event, Scanned) and event.retry_at is not None for event in events)
    if (deferred or unscanned) and delayed(after, policy, now):
        waiting = tuple(r.number for r in after.recipients if r.retry_at is not None)
        for one in _those(after, waiting, "DELAY"):
            address = next((event.address for event in deferred if one.number in event.numbers), "")
            yield Fate(recipient=one, reply=_said(after, one), address=address)


def delayed(message: Message, policy: Policy, now: datetime) -> bool:
    """Whether it has waited for so long that its sender should hear of it, and did not yet.

    Whom it waits for makes no difference to the sender: the time for which our scanners could not be asked counts.
    """
    since = message.resumed(now) or message.opened_at
    return "delay" not in message.reported and now - since >= policy.warn_after


def late(message: Message, policy: Policy, now: datetime) -> Owed:
    """Return what is to be reported of a message that waits for a scanner, and to which nothing happens meanwhile."""
    if message.awaited is None or not message.protocol or message.direction != "outbound":
        return {}
    if silence(message) is not None or not delayed(message, policy, now):
        return {}
    waiting = tuple(r.number for r in message.recipients if r.retry_at is not None)
    fates = tuple(Fate(recipient=one, reply=UNSCANNED) for one in _those(message, waiting, "DELAY"))
    return {"delay": fates} if fates else {}


def _said(message: Message, recipient: Recipient) -> str:
    """What is in the way, as the sender may hear it: how our scanners are is for the house."""
    return UNSCANNED if message.awaited is not None else recipient.reply or ""


def _successes(after: Message, events: tuple[MessageEvent, ...], policy: Policy) -> Iterable[Fate]:
    """What the next hop took and won't report itself (RFC 3461 section 5.2.2); never to somebody outside."""
    if not of_ours(after, policy):
        return
    for event in events:
        if isinstance(event, Delivered | Relayed) and not event.dsn:
            for one in _those(after, event.numbers, "SUCCESS"):
                home = isinstance(event, Delivered)
                yield Fate(recipient=one, reply=event.reply or "", address=event.address, home=home)


def _those(message: Message, numbers: tuple[int, ...], wish: Wish) -> list[Recipient]:
    return [r for r in message.recipients if r.number in numbers and r.address and wanted(message, r, wish)]


def _redirected(recipient: Recipient) -> bool:
    """Whether neither the sender nor a person named it."""
    return recipient.routed_by not in ("", BY_CLIENT, BY_FILE, BY_REPLAY)
