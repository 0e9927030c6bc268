"""What a message is when its first event has happened. Part of the fold in `life`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from store.errors import Damaged
from store.events import Downloaded, Generated, Imported, MessageEvent, RejectedOversize, Submitted
from store.message import LOCAL, Message
from store.recipient import BY_FILE, recipients_of, submitted_recipients


def opened(stream: str, event: MessageEvent, at: datetime) -> Message:
    """Return the message that an event opens. Raises Damaged for one that opens none."""
    match event:
        case Downloaded():
            return _new(
                stream,
                event,
                at,
                direction="inbound",
                mailbox=event.mailbox,
                uidl=event.uidl,
                recipients=recipients_of(event.recipient_count, event.recipients, event.routed_by),
                listed_octets=event.listed_octets,
                content=event.content,
                bare_newlines=event.bare_newlines,
                status_report=event.status_report,
                first_hop=event.next_hop,
                client_ip=event.client_ip or "",
            )
        case Submitted():
            return _submitted(stream, event, at)
        case Imported():
            return _imported(stream, event, at)
        case RejectedOversize():
            recipients = recipients_of(event.recipient_count, event.recipients, event.routed_by)
            return _new(
                stream,
                event,
                at,
                direction=event.direction,
                closed_at=at,
                mailbox=event.mailbox,
                uidl=event.uidl,
                peer=event.peer,
                helo=event.helo,
                user=event.user,
                recipients=tuple(replace(r, state="rejected-oversize") for r in recipients),
                listed_octets=event.size_octets,
                oversize=True,
            )
        case Generated():
            recipients = recipients_of(event.recipient_count, event.recipients, ())
            facts = {"recipients": recipients, "content": event.content, "about": event.about}
            return _new(stream, event, at, direction="internal", **facts)
        case _:
            raise Damaged(f"message {stream}: {event.NAME} opens no stream")


def _submitted(stream: str, event: Submitted, at: datetime) -> Message:
    return _new(
        stream,
        event,
        at,
        direction=event.direction,
        recipients=submitted_recipients(event),
        content=event.content,
        bare_newlines=event.bare_newlines,
        user=event.user,
        peer=event.peer,
        helo=event.helo,
        protocol=event.protocol,
        envid=event.envid,
        ret=event.ret,
        smtputf8=event.smtputf8,
        automatic=event.automatic,
        pushed=event.pushed,
        status_report=event.status_report,
        first_hop=event.next_hop,
    )


def _imported(stream: str, event: Imported, at: datetime) -> Message:
    return _new(
        stream,
        event,
        at,
        direction=event.direction,
        recipients=recipients_of(event.recipient_count, event.recipients, (BY_FILE,) * event.recipient_count),
        content=event.content,
        bare_newlines=event.bare_newlines,
        protocol=LOCAL,
        automatic=event.automatic,
        pushed=True,
        status_report=event.status_report,
        first_hop=event.next_hop,
    )


def _new(
    stream: str,
    event: Downloaded | Submitted | Imported | RejectedOversize | Generated,
    at: datetime,
    **facts: Any,
) -> Message:
    """Return a message with what every opening event tells, and with the facts of this one."""
    hop: str | None = getattr(event, "next_hop", None)
    return Message(
        id=stream,
        revision=0,
        opened_at=at,
        changed_at=at,
        reverse_path=event.reverse_path,
        message_id=event.message_id,
        subject=event.subject,
        sender=event.from_,
        size_octets=event.size_octets,
        hops=() if hop is None else (hop,),
        **facts,
    )
