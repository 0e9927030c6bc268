"""Tell by its octets, or by its size or header, that what a mailbox lists is on record already, whatever its UIDL says.

UIDLs change, return and are shared by two messages; some servers have none. The same octets in the same mailbox are the same
message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

from engine.core.listing import Difference, Offer
from engine.mailbox_record import uidl_text
from store import log, mailbox_queries
from store.events import Reported
from store.life import Message
from store.log import Append
from store.mailbox_events import Adopted, Adoption
from store.mailbox_life import Known, Mailbox

OURSELVES = "mailgate"


class Recognised:
    """Messages on record, by what a retrieved one is recognised by: its octets. Each is recognised once."""

    def __init__(self) -> None:
        self._records: dict[str, list[Known]] = {}

    @property
    def any(self) -> bool:
        """Whether there is anything to be recognised."""
        return bool(self._records)

    def add(self, one: Known) -> None:
        """Add one on record, once for a UIDL; one whose octets were never here can't be recognised."""
        if one.content is None:
            return
        records = self._records.setdefault(one.content, [])
        if not any((other.uidl, other.stream) == (one.uidl, one.stream) for other in records):
            records.append(one)

    def left(self, uidl: bytes) -> list[Known]:
        """Return what was not recognised under a UIDL."""
        return [
            one for records in self._records.values() for one in records if one.uidl == uidl and not one.gone
        ]

    def match(self, uidl: bytes, content: str) -> Known | None:
        """Return the record these octets are, and forget it; one under the same UIDL first."""
        records = self._records.get(content)
        if not records:
            return None
        one = next((record for record in records if record.uidl == uidl), records[0])
        records.remove(one)
        if not records:
            del self._records[content]
        return one


def recognisable(
    connection: Connection, mailbox: str, difference: Difference, wanted: Sequence[Offer]
) -> Recognised:
    """Gather the octets on record that a retrieved message may turn out to be."""
    doubtful = {offer.uidl or b"" for offer in difference.doubtful}
    found = Recognised()
    # Known under this UIDL, or known under another that has just vanished: the same octets are the same message.
    for one in (*mailbox_queries.present(connection, mailbox),) if doubtful else ():
        if one.uidl in doubtful:
            found.add(one)
    for one in difference.vanished:
        found.add(one)
    for one in mailbox_queries.gone(connection, mailbox, [offer.uidl for offer in wanted if offer.uidl]):
        found.add(one)
    return found


def come_back(mailbox: str, offer: Offer, known: Known) -> Adopted | None:
    """Return what to record of a message that came back: under another UIDL, after it had left, or with another size."""
    before = (known.uidl, known.size_octets, known.gone)
    if not offer.uidl or before == (offer.uidl, offer.size_octets, False):
        return None
    adoption = Adoption(uidl=uidl_text(offer.uidl), size_octets=offer.size_octets, message=known.stream)
    return Adopted(
        mailbox=mailbox, uidls=(adoption,), operator=OURSELVES, reason="the same octets are on record"
    )


def untold(large: Sequence[Offer], known: Sequence[Known]) -> list[Offer]:
    """Leave out what is on record as too large, where a server without UIDL lists it again: its size tells."""
    told = Counter(one.size_octets for one in known if not one.uidl and one.state == "rejected-oversize")
    left: list[Offer] = []
    for offer in large:
        if not offer.uidl and told[offer.size_octets]:
            told[offer.size_octets] -= 1
        else:
            left.append(offer)
    return left


def once_listed(connection: Connection, mailbox: str, large: Sequence[Offer]) -> list[Known]:
    """Return what a mailbox is known to hold, and what has left it and had the UIDL of one of these.

    What was asked for again has not left it: what comes of that is a message of its own.
    """
    names = [offer.uidl for offer in large if offer.uidl]
    gone = mailbox_queries.gone(connection, mailbox, names)
    messages = log.messages(connection, [one.stream for one in gone if one.stream])
    asked_for = {stream for stream, message in messages.items() if message.replays}
    return [
        *mailbox_queries.present(connection, mailbox),
        *(one for one in gone if one.stream not in asked_for),
    ]


def told_of(offer: Offer, known: Sequence[Known]) -> list[Known]:
    """Return what is on record as too large under an offer's UIDL, and may be another message nevertheless."""
    if not offer.uidl:
        return []
    return [one for one in known if one.uidl == offer.uidl and one.state == "rejected-oversize"]


def reported(connection: Connection, append: Append) -> tuple[Reported, ...]:
    """Return the reports that its recipients have of what is too large already, where it was asked for again and is so still."""
    message = append.after
    assert isinstance(message, Message)
    before, _ = mailbox_queries.alike(connection, message)
    streams = [one.stream for one in before if one.stream and one.content is None]
    for stream, story in log.read_many(connection, streams[-1:]).items():
        told = log.message(connection, stream)
        if told is not None and _about(told) == _about(message):
            events = (recorded.event for recorded in story)
            return tuple(one for one in events if isinstance(one, Reported) and one.kind == "oversize")
    return ()


def _about(message: Message) -> tuple[object, ...]:
    facts = (message.message_id, message.sender, message.subject, message.reverse_path)
    return (*facts, *(one.address for one in message.recipients))


def same_header(connection: Connection, told: Sequence[Known], append: Append) -> Known | None:
    """Return the record whose header says the same as that of a message of which there are no octets to tell by."""
    header = _header(append.after)
    if header is None:
        return None
    stories = log.messages(connection, [one.stream for one in told if one.stream])
    return next((one for one in told if _header(stories.get(one.stream or "")) == header), None)


def _header(message: Message | Mailbox | None) -> tuple[str | None, ...] | None:
    if not isinstance(message, Message) or message.message_id is None:
        return None
    return message.message_id, message.sender, message.subject, message.reverse_path
