"""The octets of messages: one row each, keyed by the position of the event that opened the message.

Written by `log.append` in the transaction of that event. Read back, they are checked against the sha256 on record: what is
handed on is what arrived, or nothing.
"""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, bindparam, select

from store.errors import Damaged
from store.life import Message
from store.schema import contents, messages

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
    if sha256(octets).hexdigest() != message.content:
        raise Damaged(f"message {message.id}: the stored octets are not those that arrived; restore a backup")
    return octets


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
