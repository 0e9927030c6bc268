"""Stores with messages in every state, made by appending events as the gateway does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

from sqlalchemy import Engine

from engine.core import ids
from store import log
from store.database import open_store, writing
from store.errors import StoreError
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Downloaded,
    Event,
    Failed,
    Generated,
    Held,
    Quarantined,
    RejectedOversize,
    RemovedFromSource,
    Reported,
    Scanned,
    Submitted,
)
from store.life import Message
from store.log import Append, Unit
from store.mailbox_events import PollFailed, mailbox_stream
from tests import schema

POLICY = "3f2a91c04b7d"
TLS = "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Builder:
    """A store to be filled. Time stands still until it is moved with `later`."""

    def __init__(self, url: str, at: datetime = NOON) -> None:
        schema.make(url)
        self.engine: Engine = open_store(url)
        self.at = at
        self._number = count(1)

    def close(self) -> None:
        self.engine.dispose()

    def later(self, **span: float) -> datetime:
        """Let time go by: `later(minutes=5)`."""
        self.at += timedelta(**span)
        return self.at

    def append(self, stream: str, *events: Event, octets: bytes | None = None) -> None:
        """Append events to a stream that is there, or open one."""
        with writing(self.engine) as connection:
            before: Any = (
                log.mailbox(connection, stream.removeprefix("mailbox-"))
                if stream.startswith("mailbox-")
                else log.message(connection, stream)
            )
            refusals = log.append(connection, [Unit((Append(stream, before, events, self.at, octets),))])
        for refusal in refusals:
            if isinstance(refusal, StoreError):
                raise refusal

    def message(self, stream: str) -> Message:
        with self.engine.connect() as connection:
            found = log.message(connection, stream)
        assert found is not None
        return found

    # -- how lives begin

    def new_id(self) -> str:
        """Return the next id; the random part counts, so that a test knows what it gets."""
        return ids.message_id(self.at, next(self._number))

    def downloaded(
        self,
        *,
        recipients: tuple[str, ...] = ("info@example.com",),
        subject: str | None = "Invoice 4711",
        reverse_path: str = "alice@customer.example",
        mailbox: str = "info",
        octets: bytes | None = None,
        next_hop: str | None = None,
    ) -> str:
        stream = self.new_id()
        number = stream[-4:]
        kept = octets or f"Subject: {subject}\r\n\r\nmessage {number}\r\n".encode()
        opening = Downloaded(
            mailbox=mailbox,
            uidl=f"uidl-{stream}",
            size_octets=len(kept),
            listed_octets=len(kept),
            content=sha256(kept).hexdigest(),
            bare_newlines=False,
            recipient_count=len(recipients),
            policy=POLICY,
            next_hop=next_hop,
            reverse_path=reverse_path,
            recipients=recipients,
            routed_by=tuple("mailbox recipients" for _ in recipients),
            message_id=f"<{number}@customer.example>",
            subject=subject,
            from_=f"Alice Example <{reverse_path}>" if reverse_path else "MAILER-DAEMON",
        )
        self.append(stream, opening, octets=kept)
        return stream

    def submitted(
        self, *, recipients: tuple[str, ...] = ("bob@partner.example",), subject: str = "Offer 12"
    ) -> str:
        stream, octets = self.new_id(), f"Subject: {subject}\r\n\r\nHello\r\n".encode()
        opening = Submitted(
            direction="outbound",
            protocol="ESMTP",
            tls="none",
            size_octets=len(octets),
            content=sha256(octets).hexdigest(),
            bare_newlines=False,
            recipient_count=len(recipients),
            policy=POLICY,
            peer="192.0.2.9",
            helo="exchange.example.com",
            reverse_path="anna@example.com",
            recipients=recipients,
            subject=subject,
        )
        self.append(stream, opening, octets=octets)
        return stream

    def oversize(
        self, *, mailbox: str = "info", subject: str = "Holiday photos", uidl: str | None = None
    ) -> str:
        stream = self.new_id()
        event = RejectedOversize(
            mailbox=mailbox,
            uidl=uidl or f"uidl-{stream}",
            size_octets=48_300_000,
            limit_octets=10_000_000,
            limit_from="next-hop",
            next_hop="home",
            recipient_count=1,
            policy=POLICY,
            reverse_path="bob@friend.example",
            recipients=("info@example.com",),
            routed_by=("mailbox recipients",),
            message_id="<photos@friend.example>",
            subject=subject,
            from_="Bob <bob@friend.example>",
        )
        self.append(stream, event)
        return stream

    def notice(self, about: str, *, kind: Any = "failure", recipient: str = "postmaster@example.com") -> str:
        """A notice of the gateway's own, and the event that says so on the message it is about."""
        stream, octets = self.new_id(), b"Subject: Not delivered\r\n\r\nHello\r\n"
        event = Generated(
            kind=kind,
            about=about,
            size_octets=len(octets),
            content=sha256(octets).hexdigest(),
            recipient_count=1,
            recipients=(recipient,),
            message_id=f"<{stream}@gate.example.com>",
            subject="Not delivered: Invoice 4711",
            from_="mailgate <postmaster@example.com>",
        )
        self.append(stream, event, octets=octets)
        self.append(about, Reported(kind=kind, report=stream))
        return stream

    # -- what happens to them

    def attempted(self, stream: str, numbers: tuple[int, ...] | None = None, hop: str = "home") -> None:
        message = self.message(stream)
        chosen = self._chosen(message, numbers)
        event = Attempted(
            numbers=chosen,
            next_hop=hop,
            attempt=message.attempts + 1,
            rule="route 1: recipients *@example.com",
            policy=POLICY,
            recipients=tuple(message.recipients[n].address for n in chosen),
        )
        self.append(stream, event)

    def delivered(self, stream: str, numbers: tuple[int, ...] | None = None, hop: str = "home") -> None:
        message = self.message(stream)
        chosen = self._chosen(message, numbers)
        event = Delivered(
            numbers=chosen,
            next_hop=hop,
            attempt=message.attempts,
            address="192.0.2.25:25",
            tls=TLS,
            code=250,
            duration_ms=212,
            recipients=tuple(message.recipients[n].address for n in chosen),
            reply=f"2.0.0 Ok: queued as {stream[-4:].upper()}",
        )
        self.append(stream, event)

    def deferred(
        self,
        stream: str,
        retry_at: datetime,
        *,
        numbers: tuple[int, ...] | None = None,
        hop: str = "home",
        code: int | None = 451,
        reply: str = "4.3.0 try again later",
        **more: Any,
    ) -> None:
        message = self.message(stream)
        chosen = self._chosen(message, numbers)
        event = Deferred(
            numbers=chosen,
            next_hop=hop,
            attempt=message.attempts,
            retry_at=retry_at,
            code=code,
            policy=POLICY,
            recipients=tuple(message.recipients[n].address for n in chosen),
            reply=reply,
            **{"scope": "message"} | more,
        )
        self.append(stream, event)

    def scanned(self, stream: str, verdict: Any, **facts: Any) -> None:
        usual = {"scanner": "clamd", "verdict": verdict, "duration_ms": 40, "policy": POLICY}
        self.append(stream, Scanned(**usual | facts))

    def quarantined(self, stream: str, reason: Any = "infected", **facts: Any) -> None:
        """As what a scanner found says; for all its recipients, unless `numbers` says for whom."""
        message = self.message(stream)
        chosen = self._chosen(message, facts.pop("numbers", None))
        usual = {
            "reason": reason,
            "rule": "clamd found Eicar-Signature",
            "scanner": "clamd",
            "numbers": chosen,
            "policy": POLICY,
            "recipients": tuple(message.recipients[n].address for n in chosen),
        }
        self.append(stream, Quarantined(**usual | facts))

    def failed(self, stream: str, numbers: tuple[int, ...] | None = None, hop: str = "home") -> None:
        message = self.message(stream)
        chosen = self._chosen(message, numbers)
        event = Failed(
            numbers=chosen,
            reason="rejected",
            next_hop=hop,
            attempt=message.attempts,
            code=550,
            policy=POLICY,
            recipients=tuple(message.recipients[n].address for n in chosen),
            reply="5.1.1 no such user here",
        )
        self.append(stream, event)

    def held(
        self, stream: str, why: Any = "unroutable", rule: str = "no header named an own address", **more: Any
    ) -> None:
        self.append(stream, Held(why=why, rule=rule, policy=POLICY, **more))

    def removed(self, stream: str) -> None:
        message = self.message(stream)
        assert message.mailbox is not None
        assert message.uidl is not None
        event = RemovedFromSource(mailbox=message.mailbox, uidl=message.uidl, confirmed_by="quit")
        self.append(stream, event)

    def mailbox_event(self, name: str, event: Event) -> None:
        self.append(mailbox_stream(name), event)

    def _chosen(self, message: Message, numbers: tuple[int, ...] | None) -> tuple[int, ...]:
        return tuple(r.number for r in message.recipients) if numbers is None else numbers


def varied(builder: Builder) -> dict[str, str]:
    """Fill a store with one message of each kind; returns their ids by what they are."""
    made = {"delivered": builder.downloaded()}
    builder.attempted(made["delivered"])
    builder.later(milliseconds=212)
    builder.delivered(made["delivered"])
    builder.later(seconds=4)
    builder.removed(made["delivered"])
    builder.later(hours=1)
    made["mixed"] = builder.downloaded(
        recipients=("anna@example.com", "gone@example.com", "dora@example.com"), subject="Grüße – 会議"
    )
    builder.attempted(made["mixed"])
    builder.delivered(made["mixed"], (0,))
    builder.failed(made["mixed"], (1,))
    builder.deferred(made["mixed"], builder.at + timedelta(minutes=5), numbers=(2,), scope="recipient")
    made["notice"] = builder.notice(made["mixed"])
    builder.attempted(made["notice"])
    builder.delivered(made["notice"])
    builder.later(hours=1)
    made["held"] = builder.downloaded(recipients=(), reverse_path="list@news.example")
    builder.held(made["held"])
    made["oversize"] = builder.oversize(mailbox="sales")
    made["unknown"] = builder.downloaded(reverse_path="carol@partner.example", subject=None)
    builder.attempted(made["unknown"])
    builder.held(made["unknown"], why="outcome-unknown", rule="home: no answer on record", numbers=(0,))
    made["failed"] = builder.downloaded(reverse_path="")
    builder.attempted(made["failed"])
    builder.failed(made["failed"])
    builder.later(hours=1)
    made["deferred"] = builder.downloaded(reverse_path="dan@customer.example")
    builder.attempted(made["deferred"])
    refused = "4.4.1 exchange.example.local:25: connection refused"
    builder.deferred(
        made["deferred"], builder.at + timedelta(minutes=5), code=421, reply=refused, scope="next-hop"
    )
    builder.mailbox_event(
        "info", PollFailed(mailbox="info", kind="auth", permanent=True, text="-ERR [AUTH] invalid login")
    )
    builder.later(minutes=1)
    made["received"] = builder.downloaded(reverse_path="eve@customer.example", subject="Just in")
    return made
