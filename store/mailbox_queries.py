"""Questions about mailboxes, asked of the read tables: how they are, and what they are known to hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import structs
from sqlalchemy import Connection, Select, func, select

from store import log
from store.events import Reported
from store.mailbox_life import Known, Mailbox
from store.message import Message
from store.read_tables import mailboxes, messages, uidls
from store.recipient import ACCEPTED
from store.recorded import Recorded
from store.rows import mailbox_of, uidl_digest, uidl_octets

PARAMETERS = 500  # of one statement; SQLite's limit is larger

Json = dict[str, Any]


def mailbox_health(connection: Connection) -> list[Json]:
    """Return name, health and the number of messages fetched of each mailbox."""
    found = select(mailboxes.c.name, mailboxes.c.health, mailboxes.c.downloaded).order_by(mailboxes.c.name)
    return [dict(row) for row in connection.execute(found).mappings()]


def mailbox_rows(connection: Connection) -> list[Json]:
    """Return each mailbox's standing."""
    present = select(uidls.c.mailbox, func.count().label("present")).where(uidls.c.gone.is_(False))
    counts = {row.mailbox: row.present for row in connection.execute(present.group_by(uidls.c.mailbox))}
    rows = connection.execute(select(mailboxes).order_by(mailboxes.c.name)).mappings()
    return [standing_of(mailbox_of(row)) | {"present": counts.get(row["name"], 0)} for row in rows]


def standing_of(found: Mailbox) -> Json:
    """Return a mailbox's standing as `mailbox_rows` has it, but for what is present."""
    return structs.asdict(found) | {
        "withheld": [structs.asdict(one) for one in found.withheld],
        "undeleted": [structs.asdict(one) for one in found.undeleted],
    }


class Withholds(NamedTuple):
    """How many messages a mailbox lists that are not to be had, and since when the oldest of those that are named."""

    mailbox: str
    number: int
    since: datetime


def withholding(connection: Connection) -> list[Withholds]:
    """Return which mailboxes list messages that are not to be had: these are open, though not in the store."""
    some = select(mailboxes).where(mailboxes.c.withheld != "[]").order_by(mailboxes.c.name)
    found = map(mailbox_of, connection.execute(some).mappings())
    return [Withholds(one.name, one.withholds, min(each.since for each in one.withheld)) for one in found]


def mailbox(connection: Connection, name: str) -> Mailbox:
    """Return what a mailbox's events add up to, from its row: its stream grows with every poll that finds something."""
    row = connection.execute(select(mailboxes).where(mailboxes.c.name == name)).mappings().first()
    return mailbox_of(row) if row else Mailbox(name=name)


def present(connection: Connection, mailbox: str, *, notices: bool = False) -> list[Known]:
    """Return what a mailbox is known to hold, in the order it was taken; with `notices`, also whether people were told."""
    query = _KNOWN.where(uidls.c.mailbox == mailbox, uidls.c.gone.is_(False))
    found = [_known(row) for row in connection.execute(query.order_by(uidls.c.position, uidls.c.number))]
    large = [one.stream for one in found if one.stream and one.state == "rejected-oversize"]
    if not notices or not large:
        return found
    told = _told(connection, large)
    return [structs.replace(one, told=True) if one.stream in told else one for one in found]


def _told(connection: Connection, streams: Sequence[str]) -> set[str]:
    """Return of which of these, too large, all notices have reached their readers."""
    told: set[str] = set()
    for start in range(0, len(streams), PARAMETERS):
        stories = log.read_many(connection, streams[start : start + PARAMETERS])
        reports = {stream: _reports(story) for stream, story in stories.items()}
        taken = _taken(connection, [report for some in reports.values() for report in some])
        told.update(stream for stream, some in reports.items() if some and taken.issuperset(some))
    return told


def _reports(story: Sequence[Recorded]) -> list[str]:
    events = (one.event for one in story)
    return [event.report for event in events if isinstance(event, Reported) and event.kind == "oversize"]


def _taken(connection: Connection, streams: Sequence[str]) -> set[str]:
    taken: set[str] = set()
    for start in range(0, len(streams), PARAMETERS):
        some = messages.c.id.in_(streams[start : start + PARAMETERS]), messages.c.state.in_(ACCEPTED)
        taken.update(connection.scalars(select(messages.c.id).where(*some)))
    return taken


def gone(connection: Connection, mailbox: str, names: Sequence[bytes]) -> list[Known]:
    """Return what once had one of these UIDLs and has left the mailbox, newest first."""
    found: list[Known] = []
    seen: set[bytes] = set()  # a name may be asked for twice
    for start in range(0, len(names), PARAMETERS):
        asked = set(names[start : start + PARAMETERS]) - seen
        some = [uidl_digest(uidl) for uidl in asked]
        query = _KNOWN.where(uidls.c.mailbox == mailbox, uidls.c.digest.in_(some), uidls.c.gone.is_(True))
        rows = connection.execute(query.order_by(uidls.c.position.desc()))
        more = [one for one in map(_known, rows) if one.uidl in asked]
        seen.update(one.uidl for one in more)
        found += more
    return found


def alike(connection: Connection, message: Message) -> tuple[list[Known], list[Known]]:
    """Return what was taken under a message's UIDL with its size, or refused, before it and after it, the oldest first.

    Nothing where the server has no UIDL: any two messages may have the same size.
    """
    if message.mailbox is None or not message.uidl:
        return [], []
    uidl = uidl_octets(message.uidl)
    query = _KNOWN.where(uidls.c.mailbox == message.mailbox, uidls.c.digest == uidl_digest(uidl))
    rows = map(_known, connection.execute(query.order_by(uidls.c.position, uidls.c.number)))
    found = [one for one in rows if one.uidl == uidl and one.size_octets == message.listed_octets]
    place = next((n for n, one in enumerate(found) if one.stream == message.id), len(found))
    others = [one.stream not in (None, message.id) for one in found]
    before = [one for n, one in enumerate(found) if others[n] and n < place]
    return before, [one for n, one in enumerate(found) if others[n] and n > place]


def came_as(connection: Connection, message: Message) -> Known | None:
    """Return as which message a mail came that was too large to be fetched, or as which it was found too large again."""
    if message.content is not None or not message.replays:
        return None  # what has its UIDL then is another mail
    later = alike(connection, message)[1][::-1]
    return next((one for one in later if one.content is not None), later[0] if later else None)


_KNOWN: Select[Any] = select(
    uidls.c.uidl,
    uidls.c.size_octets,
    uidls.c.stream,
    messages.c.state,
    messages.c.content,
    messages.c.opened_at,
    uidls.c.gone,
).join(messages, messages.c.id == uidls.c.stream, isouter=True)


def _known(row: Sequence[Any]) -> Known:
    uidl, size_octets, stream, state, content, opened_at, is_gone = row
    return Known(
        uidl=bytes(uidl),
        size_octets=size_octets,
        stream=stream,
        state=state,
        content=content,
        opened_at=opened_at,
        gone=is_gone,
    )
