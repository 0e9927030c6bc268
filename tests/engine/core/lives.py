"""Messages for the tests of the pure decisions, made by folding events as the log does. Time stands at NOON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.core.outcome import Answer, Outcome, Reply
from engine.core.plan import HandOver
from engine.core.policy import HopPolicy, Policy
from engine.core.routing import RouteRule
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Direction,
    Downloaded,
    Failed,
    Generated,
    Held,
    MessageEvent,
    Submitted,
)
from store.life import Message, evolve

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=7)
VERSION = "3f2a91c04b7d"
INFO = "info@example.com"
SALES = "sales@example.com"
BRANCH = "desk@branch.example"
ROUTES = (
    RouteRule(recipients=("*@example.com",), next_hop="home"),
    RouteRule(recipients=("*@branch.example",), next_hop="branch"),
)


def policy(**changes: Any) -> Policy:
    """Two next hops, a route to each; nothing else is special."""
    usual: dict[str, Any] = {
        "version": VERSION,
        "hostname": "gate.example.com",
        "postmaster": "postmaster@example.com",
        "domains": ("example.com",),
        "routes": ROUTES,
        "hops": {"home": HopPolicy(), "branch": HopPolicy()},
    }
    return Policy(**(usual | changes))


def downloaded(*recipients: str, at: datetime = NOON, size_octets: int = 1_000) -> Message:
    """A message as it came from the mailbox; without recipients it has none."""
    opening = Downloaded(
        mailbox="info",
        uidl="uidl-1",
        size_octets=size_octets,
        listed_octets=size_octets,
        content="00" * 32,
        bare_newlines=False,
        recipient_count=len(recipients),
        policy=VERSION,
        reverse_path="alice@customer.example",
        recipients=recipients,
        routed_by=("mailbox recipients",) * len(recipients),
        message_id="<1@customer.example>",
        subject="Invoice 4711",
        from_="Alice <alice@customer.example>",
    )
    return evolve(None, "message-1", opening, at)


def generated(at: datetime = NOON) -> Message:
    """A notice of the gateway's own."""
    opening = Generated(
        kind="failure",
        about="message-0",
        size_octets=500,
        content="11" * 32,
        recipient_count=1,
        recipients=("postmaster@example.com",),
    )
    return evolve(None, "notice-1", opening, at)


def after(message: Message, *events: MessageEvent, at: datetime = NOON) -> Message:
    """What the message is after these events."""
    for event in events:
        message = evolve(message, message.id, event, at)
    return message


def submitted(*recipients: str, direction: Direction = "outbound", **facts: Any) -> Message:
    """A message as a client of ours handed it in."""
    opening = Submitted(
        **{
            "direction": direction,
            "protocol": "ESMTP",
            "tls": "none",
            "size_octets": 1_000,
            "content": "00" * 32,
            "bare_newlines": False,
            "recipient_count": len(recipients),
            "policy": VERSION,
            "peer": "192.0.2.9",
            "helo": "exchange.example.com",
            "reverse_path": INFO,
            "recipients": recipients,
            "message_id": "<2@example.com>",
            "subject": "Offer 4712",
            "from_": f"Info <{INFO}>",
        }
        | facts
    )
    return evolve(None, "message-2", opening, NOON)


def attempted(message: Message, *numbers: int, hop: str = "home", at: datetime = NOON) -> Message:
    """After an attempt of which no answer is on record yet."""
    chosen = numbers or tuple(r.number for r in message.recipients)
    event = Attempted(
        numbers=chosen, next_hop=hop, attempt=message.attempts + 1, rule="route 1", policy=VERSION
    )
    return after(message, event, at=at)


def deferred(message: Message, *numbers: int, retry_at: datetime, hop: str = "home", **more: Any) -> Message:
    chosen = numbers or tuple(r.number for r in message.recipients)
    usual: dict[str, Any] = {"scope": "message", "code": 451, "reply": "4.3.0 later"}
    event = Deferred(
        numbers=chosen,
        next_hop=hop,
        attempt=message.attempts,
        retry_at=retry_at,
        policy=VERSION,
        **(usual | more),
    )
    return after(message, event)


def delivered(message: Message, *numbers: int, hop: str = "home") -> Message:
    chosen = numbers or tuple(r.number for r in message.recipients)
    event = Delivered(
        numbers=chosen,
        next_hop=hop,
        attempt=message.attempts,
        address="",
        tls="none",
        code=250,
        duration_ms=1,
    )
    return after(message, event)


def failed(message: Message, *numbers: int, reply: str = "5.1.1 no such user", hop: str = "home") -> Message:
    chosen = numbers or tuple(r.number for r in message.recipients)
    event = Failed(
        numbers=chosen,
        reason="rejected",
        next_hop=hop,
        attempt=message.attempts,
        code=550,
        policy=VERSION,
        reply=reply,
    )
    return after(message, event)


def held(message: Message, *numbers: int, why: Any = "unroutable", until: datetime | None = None) -> Message:
    return after(message, Held(why=why, rule="no route", until=until, numbers=numbers, policy=VERSION))


def hand_over(message: Message, *numbers: int, hop: str = "home") -> HandOver:
    """The step whose attempt `message` has just seen."""
    chosen = numbers or tuple(r.number for r in message.recipients)
    return HandOver(
        next_hop=hop,
        numbers=chosen,
        recipients=tuple(message.recipients[n].address for n in chosen),
        attempt=message.attempts,
        rule="route 1",
    )


def outcome(*answers: Answer) -> Outcome:
    return Outcome(answers, "192.0.2.25:25", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified", 12)


TAKEN = Reply(250, "2.0.0 taken", "2.0.0", "message")
LATER_PLEASE = Reply(451, "4.3.0 later", "4.3.0", "message")
NO_SUCH_USER = Reply(550, "5.1.1 no such user", "5.1.1", "recipient")
HOP_DOWN = Reply(None, "4.4.1 connect: refused", "4.4.1", "next-hop")
