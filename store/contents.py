"""The octets of messages: one row each, keyed by the position of the event that opened the message.

Written by `log.append` in the transaction of that event, dropped in that of `contents-purged`. Read back, they are checked
against the sha256 on record: what is handed on is what arrived, or nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, LargeBinary, bindparam, delete, exists, func, select

from store.codec import decode
from store.errors import Damaged, UnknownEvent
from store.events import Generated
from store.life import Message
from store.read_tables import exempt, messages
from store.schema import contents, events
from store.selection import between

PAGE = 500  # notices

_BEGINNING = (
    # SQLite makes NULL of the substring of nothing.
    select(
        func.coalesce(
            func.substr(contents.c.octets, 1, bindparam("size")), contents.c.octets, type_=LargeBinary
        )
    )
    .join(messages, messages.c.position == contents.c.position)
    .where(messages.c.id == bindparam("stream"))
)
_GET = (
    select(contents.c.octets)
    .join(messages, messages.c.position == contents.c.position)
    .where(messages.c.id == bindparam("stream"))
)


def get(connection: Connection, message: Message) -> bytes | None:
    """Return a message's octets; None where they were never here or are gone by retention.

    Raises Damaged where they are not those that arrived.
    """
    octets = _octets(connection, message.id)
    if octets is None:
        return None
    if not isinstance(octets, bytes) or sha256(octets).hexdigest() != message.content:
        raise Damaged(f"message {message.id}: the stored octets are not those that arrived; restore a backup")
    return octets


def beginning(connection: Connection, message: Message, size_octets: int) -> bytes | None:
    """Return up to so many octets from the start of a message; None where they were never here or are gone.

    A part can't be checked against the sha256 on record: for reading about a message, never for handing it on.
    """
    found = connection.scalar(_BEGINNING, {"stream": message.id, "size": size_octets})
    return None if found is None else bytes(found)


def closed(
    connection: Connection, before: datetime, after: int, limit: int
) -> tuple[list[tuple[str, int]], int | None]:
    """Look at the octets of up to `limit` messages from behind position `after`, oldest first.

    Returns the ids and sizes of those that are closed since `before`, and from where to go on; None at the end. What is exempt is
    passed over. Along the octets that are still here and not along the messages: of these nearly all have none, after years.
    """
    span = between(connection, None, before)
    last = span.last if span is not None else 0
    walked = select(contents.c.position).where(
        contents.c.position > after,
        contents.c.position <= last,
        ~exists().where(exempt.c.message == contents.c.position),
    )
    positions = list(connection.scalars(walked.order_by(contents.c.position).limit(limit)))
    found = select(messages.c.id, messages.c.size_octets).where(
        messages.c.position.in_(positions), messages.c.closed_at <= before
    )
    rows = connection.execute(found.order_by(messages.c.position)).all() if positions else ()
    return [(row.id, row.size_octets) for row in rows], (positions[-1] if len(positions) == limit else None)


def notices(connection: Connection, kinds: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the gateway's own notices of these kinds whose octets are here, oldest first: the id and the octets of each.

    One whose beginning can't be read is left out: what may become of it, nobody knows.
    """
    found = (
        select(messages.c.position, messages.c.id, events.c.name, events.c.version, events.c.data)
        .join(contents, contents.c.position == messages.c.position)
        .join(events, events.c.position == messages.c.position)
        .where(messages.c.direction == "internal", messages.c.position > bindparam("after"))
        .order_by(messages.c.position)
        .limit(PAGE)
    )
    after = 0
    while rows := connection.execute(found, {"after": after}).all():
        for row in rows:
            kind = _kind(row.name, row.version, bytes(row.data))
            octets = _octets(connection, row.id) if kind in kinds else None
            if octets is not None:
                yield row.id, octets
        after = rows[-1].position


def _kind(name: str, version: int, data: bytes) -> str:
    try:
        event = decode(name, version, data, None)
    except (Damaged, UnknownEvent):
        return ""
    return event.kind if isinstance(event, Generated) else ""


def drop(connection: Connection, streams: Sequence[str]) -> None:
    """Delete the octets of these messages, in a transaction that puts on record that they are no longer kept."""
    its = select(messages.c.position).where(messages.c.id.in_(list(streams)))
    connection.execute(delete(contents).where(contents.c.position.in_(its)))


def _octets(connection: Connection, stream: str) -> bytes | None:
    if connection.dialect.name != "postgresql":
        return connection.scalar(_GET, {"stream": stream})
    # In binary: as text each octet would come as two digits, and be held in both forms at once.
    driver: Any = connection.connection
    with closing(driver.cursor(binary=True)) as cursor:
        cursor.execute(
            "SELECT c.octets FROM contents c JOIN messages m USING (position) WHERE m.id = %s", (stream,)
        )
        row = cursor.fetchone()
        return None if row is None else bytes(row[0])
