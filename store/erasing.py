"""Take away what is personal of a message: its personal facts and their salts, its octets, its rows in the read tables.

The one lawful change of the log. The chain goes on as it was, for it covers a digest of what is gone; without the salt nobody
can test a guess against that. What happened and when stays, and so does every state. What was deleted may still stand in
pages of the database's files: `scrubbing` sees to those.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, null, select, update

from store import contents, log
from store.events import Erased, MessageEvent
from store.life import Message
from store.log import Append, Unit
from store.projections import Changes
from store.read_tables import messages, next_hops, recipients, subjects, texts
from store.schema import contents as octets_of
from store.schema import events

# Where the position of a message stands in each read table that is made of what it adds up to. Its next hops stay: an
# event's next hop is no personal fact.
ITS_ROWS = (recipients.c.message, texts.c.rowid, subjects.c.position, messages.c.position)
NOTHING = b"{}"  # what stands for the personal facts of an event that could have some and has none


def left(connection: Connection, stream: str) -> tuple[int, ...]:
    """Return the revisions of the events of a message that still have personal facts.

    The reasons of earlier erasures are not among them: they must be answered for.
    """
    found = select(events.c.revision).where(*_personal(stream)).order_by(events.c.revision)
    return tuple(connection.scalars(found))


def has_octets(connection: Connection, stream: str) -> bool:
    """Whether a message's octets are here."""
    found = select(octets_of.c.position).join(messages, messages.c.position == octets_of.c.position)
    return connection.scalar(found.where(messages.c.id == stream)) is not None


def overwrite(connection: Connection) -> None:
    """Have SQLite overwrite with zeros what is deleted through this connection."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON").close()


def erase(
    connection: Connection,
    stream: str,
    *,
    operator: str,
    reason: str,
    at: datetime,
    first: tuple[MessageEvent, ...] = (),
) -> Message:
    """Erase a message that is in the log, in a write transaction, and put it on record; returns it as it is now.

    `first` are events that come before it, without personal facts: by one an open message is discarded.
    """
    event = Erased(
        revisions=left(connection, stream),
        octets=has_octets(connection, stream),
        operator=operator,
        reason=reason,
    )
    connection.execute(update(events).where(*_personal(stream)).values(personal=null(), salt=null()))
    append = Append(stream, log.message(connection, stream), (*first, event), at)
    (refusal,) = log.append(connection, [Unit((append,))])
    if refusal is not None:
        raise refusal
    contents.drop(connection, [stream])
    erased = append.after
    assert isinstance(erased, Message)
    _made_anew(connection, erased)
    return erased


def _personal(stream: str) -> tuple[ColumnElement[bool], ...]:
    told = events.c.personal.is_not(None), events.c.personal != NOTHING
    return events.c.stream == stream, *told, events.c.name != Erased.NAME


def _made_anew(connection: Connection, message: Message) -> None:
    """Make the rows that come of what it adds up to as a rebuild would; others hold nothing personal, but for one reply."""
    opened = connection.scalar(select(messages.c.position).where(messages.c.id == message.id))
    assert opened is not None
    for place in ITS_ROWS:
        connection.execute(delete(place.table).where(place == opened))
    changes = Changes()
    changes.add(message.id, None, message, opened)
    changes.write(connection)
    told = select(events.c.position).where(events.c.stream == message.id)
    connection.execute(update(next_hops).where(next_hops.c.reply_position.in_(told)).values(reply=null()))
