"""Rows of the read tables: what a message, a recipient, a UIDL or a next hop looks like there. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from store.errors import Damaged
from store.folding import folded, words
from store.life import DOMAIN_HOP, Message
from store.mailbox_events import Adopted, Undeleted, Withheld
from store.mailbox_life import Mailbox
from store.message import waits_at
from store.recipient import Recipient
from store.schema import microseconds

# Postgres refuses a row whose index entry is over 2,704 octets: such a message could never be taken in.
INDEXED_OCTETS = 2_000
UIDL_DIGEST_OCTETS = 16  # enough to tell UIDLs of one mailbox apart; the whole one is compared after

DIRECTLY = DOMAIN_HOP.removesuffix(":")  # as the name of a next hop: every domain's, as a route says it

Row = dict[str, Any]


def uidl_octets(uidl: str) -> bytes:
    """Return a UIDL as the server sent it; events read each octet as one character."""
    return uidl.encode("latin-1")


def uidl_digest(uidl: bytes) -> bytes:
    """Return what a UIDL is looked up by."""
    return sha256(uidl).digest()[:UIDL_DIGEST_OCTETS]


def key(address: str) -> str:
    """Return the form in which addresses are compared."""
    return indexed(address.lower())


def indexed(text: str) -> str:
    """Return a text as an index can hold it: a longer one is cut, here and where it is looked up."""
    whole = storable(text)
    if len(whole) * 4 <= INDEXED_OCTETS:
        return whole
    return whole.encode()[:INDEXED_OCTETS].decode(errors="ignore")


def part_of(replay: str) -> str:
    """Return the name among happenings by which the messages of a replay are found."""
    return indexed(f"replay:{replay}")


def _time(at: datetime | None) -> int | None:
    return None if at is None else microseconds(at)


def message_row(position: int, message: Message) -> Row:
    """Return the row of a message that was opened at this position."""
    sender = message.known_reverse_path
    return {
        "position": position,
        "id": message.id,
        "direction": message.direction,
        "opened_at": _time(message.opened_at),
        "mailbox": message.mailbox,
        "uidl": _optional(message.uidl),
        "reverse_path": _optional(sender),
        "reverse_path_key": None if sender is None else key(sender),
        "message_id": None if message.message_id is None else indexed(message.message_id),
        "subject": _optional(message.subject),
        "sender": _optional(message.sender),
        "size_octets": message.size_octets,
        "content": message.content,
        "state": message.state,
        "changed_at": _time(message.changed_at),
        "closed_at": _time(message.closed_at),
        "attempts": message.attempts,
        "next_hop": _next_hop(message),
        "due_at": _time(message.due_at),
        "quarantined_why": message.quarantined_why,
        "quarantined_by": _optional(message.quarantined_by or None),
    }


def changed_row(message: Message) -> Row:
    """Return the columns that change during a message's life, and whose row it is."""
    return {
        "the_id": message.id,
        "new_state": message.state,
        "new_changed_at": _time(message.changed_at),
        "new_closed_at": _time(message.closed_at),
        "new_attempts": message.attempts,
        "new_next_hop": _next_hop(message),
        "new_due_at": _time(message.due_at),
        "new_quarantined_why": message.quarantined_why,
        "new_quarantined_by": _optional(message.quarantined_by or None),
    }


def _next_hop(message: Message) -> str | None:
    """Where it waits, for the first recipient of whom that is known; where it went, when all have a fate."""
    waiting = [waits_at(one, message) for one in message.recipients if one.open]
    if waiting:
        return next(filter(None, waiting), None)
    for recipient in message.recipients:
        if recipient.next_hop:
            return recipient.next_hop
    return message.first_hop


def text_row(position: int, message: Message) -> Row:
    """Return the words that the message opened at this position is found by."""
    return {"rowid": position, "words": words_of(message)}


def subject_row(position: int, message: Message) -> Row:
    """Return the row of a message that has a subject."""
    return {"position": position, "folded": folded(message.subject or "")}


def found_anew(message: Message) -> Row:
    """Return the words that a message is found by from now on, and whose they are."""
    return {"the_id": message.id, "new_words": words_of(message)}


def words_of(message: Message) -> str:
    """Return the words that a message is found by."""
    # The addresses first: should there be too many words, it is the subject that goes short.
    addresses = [one.address for one in message.recipients]
    return words((message.reverse_path, *addresses, message.sender, message.subject))


def hop_rows(before: Message | None, after: Message) -> Iterable[Row]:
    """Yield the names of the next hops that a message is found by now and was not before."""
    known = before.hops if before else ()
    if len(known) == len(after.hops):  # nearly always
        return
    direct = any(hop.startswith(DOMAIN_HOP) for hop in known)
    for hop in after.hops[len(known) :]:
        yield {"name": hop, "stream": after.id}
        if hop.startswith(DOMAIN_HOP) and not direct:
            direct = True
            yield {"name": DIRECTLY, "stream": after.id}


def recipient_row(position: int, message: Message, recipient: Recipient) -> Row:
    """Return the row of one recipient of the message that was opened at this position."""
    return {
        "message": position,
        "number": recipient.number,
        "address": storable(recipient.address),
        "address_key": key(recipient.address),
        "routed_by": storable(recipient.routed_by),
        "state": recipient.state,
        "next_hop": recipient.next_hop,
        "reply": _optional(recipient.reply),
        "attempts": recipient.attempts,
        "unknown_attempts": recipient.unknown_attempts,
        "retry_at": _time(recipient.retry_at),
    }


def moved_rows(before: Message, after: Message) -> Iterable[Row]:
    """Yield what the updates of the recipients' rows need, for those to whom something happened."""
    for old, new in zip(before.recipients, after.recipients, strict=False):
        if old != new:
            yield {
                "the_id": after.id,
                "the_number": new.number,
                "new_state": new.state,
                "new_next_hop": new.next_hop,
                "new_reply": _optional(new.reply),
                "new_attempts": new.attempts,
                "new_unknown_attempts": new.unknown_attempts,
                "new_retry_at": _time(new.retry_at),
            }


def joined_rows(before: Message, after: Message) -> Iterable[Row]:
    """Yield the rows of the recipients that a message did not have when it was opened."""
    for new in after.recipients[len(before.recipients) :]:
        row = recipient_row(0, after, new)
        del row["message"]
        yield {"the_id": after.id, **row}


def uidl_row(
    position: int, number: int, stream: str | None, mailbox: str, uidl: str, size_octets: int
) -> Row:
    """Return the row of a UIDL that a mailbox was seen to hold; `number` is its place in the event."""
    octets = uidl_octets(uidl)
    return {
        "position": position,
        "number": number,
        "mailbox": mailbox,
        "uidl": octets,
        "digest": uidl_digest(octets),
        "size_octets": size_octets,
        "stream": stream,
        "gone": False,
    }


def removed_row(stream: str, uidl: str, before: int) -> Row:
    """Return what says that a message no longer is under a UIDL it was taken under before a position."""
    return {"the_stream": stream, "the_digest": uidl_digest(uidl_octets(uidl)), "before": before}


def superseded(event: Adopted, position: int) -> list[Row]:
    """Return what says that messages known before are known anew: a UIDL is listed with another size."""
    return [removed_row(one.message, one.uidl, position) for one in event.uidls if one.message is not None]


def mailbox_row(mailbox: Mailbox) -> Row:
    """Return a mailbox's row."""
    return {
        "name": mailbox.name,
        "revision": mailbox.revision,
        "health": mailbox.health,
        "since": mailbox.since,
        "kind": mailbox.kind,
        "permanent": mailbox.permanent,
        "text": _optional(mailbox.text),
        "last_new_at": mailbox.last_new_at,
        "downloaded": mailbox.downloaded,
        "withheld": msgspec.json.encode(mailbox.withheld).decode(),
        "more_withheld": mailbox.more_withheld,
        "marked": msgspec.json.encode(mailbox.marked).decode(),
        "undeleted": msgspec.json.encode(mailbox.undeleted).decode(),
        "more_undeleted": mailbox.more_undeleted,
    }


def mailbox_of(row: RowMapping) -> Mailbox:
    """Return the mailbox whose row this is. Raises Damaged where the row is none."""
    try:
        withheld = msgspec.json.decode(row["withheld"], type=tuple[Withheld, ...])
        marked = msgspec.json.decode(row["marked"], type=tuple[str, ...])
        undeleted = msgspec.json.decode(row["undeleted"], type=tuple[Undeleted, ...])
    except (msgspec.DecodeError, TypeError) as error:
        raise Damaged(
            f"mailbox {row['name']} can't be read in the read tables; run: mailgate db rebuild"
        ) from error
    return Mailbox(**dict(row) | {"withheld": withheld, "marked": marked, "undeleted": undeleted})


def storable(value: str) -> str:
    """Postgres stores no NUL in a text; the event keeps it."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value


def _optional(value: str | None) -> str | None:
    return None if value is None else storable(value)
