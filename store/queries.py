"""Questions about messages, mailboxes and next hops, asked of the read tables.

Every filter that an index can serve uses it; pages are cut by position, never by OFFSET, so the thousandth page
costs what the first does. Rows come out as the plain objects that `--json` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, select

from store.events import Direction
from store.life import ATTENTION, Known, State
from store.projections import indexed, key, uidl_digest
from store.schema import (
    COMMON_EVENTS,
    agenda,
    events,
    mailboxes,
    messages,
    microseconds,
    next_hops,
    recipients,
    uidls,
)

PAGE = 50
PARAMETERS = 500  # of one statement; SQLite's limit is larger

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What `list` was asked for; None asks for anything. Addresses are exact, or patterns with `*`."""

    sender: str | None = None
    recipient: str | None = None
    subject: str | None = None  # a fragment
    message_id: str | None = None
    mailbox: str | None = None
    state: State | None = None
    direction: Direction | None = None
    next_hop: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event: str | None = None


def page(
    connection: Connection, wanted: Filter, *, before: int | None = None, limit: int = PAGE
) -> list[Json]:
    """Return messages, newest first, from below position `before`; each with its recipients and its `position`."""
    query = _page(wanted, before)
    if wanted.since is not None or wanted.until is not None:
        opened = connection.scalars(_opened(wanted, before)).all()
        if len(opened) < PARAMETERS:
            query = query.where(messages.c.position.in_(opened))
    rows = connection.execute(query.limit(limit)).all()
    return _with_recipients(connection, rows)


def every(connection: Connection, wanted: Filter, limit: int | None = None) -> Iterator[Json]:
    """Yield messages, newest first, page after page, in constant memory."""
    before: int | None = None
    while limit is None or limit > 0:
        size = PAGE * 10 if limit is None else min(PAGE * 10, limit)
        found = page(connection, wanted, before=before, limit=size)
        yield from found
        if len(found) < size:
            return
        before = found[-1]["position"]
        limit = None if limit is None else limit - size


def one(connection: Connection, message_id: str) -> Json | None:
    """Return one message's row by its whole id."""
    rows = connection.execute(select(messages).where(messages.c.id == message_id)).all()
    return next(iter(_with_recipients(connection, rows)), None)


def ids(connection: Connection, prefix: str, limit: int = 2) -> list[str]:
    """Return up to `limit` ids that begin with `prefix`."""
    above = prefix + "\N{LATIN SMALL LETTER Z}" * 32
    found = select(messages.c.id).where(messages.c.id >= prefix, messages.c.id <= above)
    return list(connection.scalars(found.order_by(messages.c.id).limit(limit)))


def open_count(connection: Connection) -> int:
    """Return how many messages are open."""
    counted = select(func.count()).select_from(messages).where(messages.c.state.in_(ATTENTION))
    return connection.scalar(counted) or 0


def queue(connection: Connection, limit: int = 1000) -> Iterator[Json]:
    """Yield what is open, oldest first."""
    after = 0
    while True:
        found = select(messages).where(messages.c.state.in_(ATTENTION), messages.c.position > after)
        rows = connection.execute(found.order_by(messages.c.position).limit(limit)).all()
        yield from _with_recipients(connection, rows)
        if len(rows) < limit:
            return
        after = rows[-1].position


def hops(connection: Connection) -> list[Json]:
    """Return each next hop's standing, and what is open for it: count, oldest, next attempt."""
    waiting = select(
        messages.c.next_hop,
        func.count().label("open"),
        func.min(messages.c.opened_at).label("oldest_at"),
        func.min(messages.c.due_at).label("due_at"),
    ).where(messages.c.state.in_(ATTENTION))
    found: dict[str, Json] = {}
    for row in connection.execute(waiting.group_by(messages.c.next_hop)).mappings():
        name = row["next_hop"] or ""
        found[name] = {
            "next_hop": name,
            "open": row["open"],
            "oldest_at": row["oldest_at"],
            "due_at": row["due_at"],
        }
    for row in connection.execute(select(next_hops)).mappings():
        blank = {"next_hop": row["name"], "open": 0, "oldest_at": None, "due_at": None}
        found[row["name"]] = found.get(row["name"], blank) | {
            "failures": row["failures"],
            "since": row["since"],
            "probe_at": row["probe_at"],
            "reply": row["reply"],
            "size_limit_octets": row["size_limit_octets"],
        }
    return [found[name] for name in sorted(found)]


def mailbox_rows(connection: Connection) -> list[Json]:
    """Return each mailbox's standing."""
    present = select(uidls.c.mailbox, func.count().label("present")).where(uidls.c.gone.is_(False))
    counts = {row.mailbox: row.present for row in connection.execute(present.group_by(uidls.c.mailbox))}
    rows = connection.execute(select(mailboxes).order_by(mailboxes.c.name)).mappings()
    return [dict(row) | {"present": counts.get(row["name"], 0)} for row in rows]


def lease(connection: Connection, message_id: str) -> Json | None:
    """Return a message's place in the agenda, None where it has none."""
    row = connection.execute(select(agenda).where(agenda.c.stream == message_id)).mappings().first()
    return dict(row) if row else None


def present(connection: Connection, mailbox: str) -> list[Known]:
    """Return what a mailbox is known to hold, in the order it was taken."""
    found = _KNOWN.where(uidls.c.mailbox == mailbox, uidls.c.gone.is_(False))
    return [_known(row) for row in connection.execute(found.order_by(uidls.c.position, uidls.c.number))]


def gone(connection: Connection, mailbox: str, names: Sequence[bytes]) -> list[Known]:
    """Return what once had one of these UIDLs and has left the mailbox, newest first."""
    asked = set(names)
    found: list[Known] = []
    digests = [uidl_digest(uidl) for uidl in asked]
    for start in range(0, len(digests), PARAMETERS):
        some = digests[start : start + PARAMETERS]
        query = _KNOWN.where(uidls.c.mailbox == mailbox, uidls.c.digest.in_(some), uidls.c.gone.is_(True))
        found += (_known(row) for row in connection.execute(query.order_by(uidls.c.position.desc())))
    return [one for one in found if one.uidl in asked]


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


def _page(wanted: Filter, before: int | None) -> Select[Any]:
    query = select(messages)
    place: ColumnElement[int] = messages.c.position
    if wanted.recipient is not None and "*" not in wanted.recipient:
        # The recipients' index leads, so that its order is the page's order. No message names an address twice.
        place = recipients.c.message
        query = query.join(recipients, place == messages.c.position)
        query = query.where(_address(recipients.c.address_key, wanted.recipient))
    elif wanted.recipient is not None:
        its = recipients.c.message == messages.c.position
        query = query.where(exists().where(its, _address(recipients.c.address_key, wanted.recipient)))
    if before is not None:
        query = query.where(place < before)
    return query.where(*_conditions(wanted)).order_by(place.desc())


def _opened(wanted: Filter, before: int | None) -> Select[Any]:
    """Select the positions of what was opened in the span of time, if they are few.

    A page is in the order of positions, so that a database walks all of them down to the last for a short span
    that is long ago, or has fewer messages than the page. Of a long span the walk soon finds enough.
    """
    query = select(messages.c.position).where(*_span(wanted)).limit(PARAMETERS)
    return query if before is None else query.where(messages.c.position < before)


def _span(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.since is not None:
        yield messages.c.opened_at >= wanted.since
    if wanted.until is not None:
        yield messages.c.opened_at < wanted.until


def _conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.sender is not None:
        yield _address(messages.c.reverse_path_key, wanted.sender)
    if wanted.subject is not None:
        yield messages.c.subject.icontains(wanted.subject, autoescape=True)
    if wanted.message_id is not None:
        bare = wanted.message_id.strip("<>")
        yield messages.c.message_id.in_([indexed(bare), indexed(f"<{bare}>")])
    if wanted.mailbox is not None:
        yield messages.c.mailbox == wanted.mailbox
    if wanted.state is not None:
        yield messages.c.state == wanted.state
    if wanted.direction is not None:
        yield messages.c.direction == wanted.direction
    if wanted.next_hop is not None:
        yield messages.c.next_hop == wanted.next_hop
    yield from _span(wanted)
    if wanted.event is not None:
        yield _event(wanted.event)


def _event(name: str) -> ColumnElement[bool]:
    happened = and_(events.c.stream == messages.c.id, events.c.name == name)
    if name in COMMON_EVENTS:
        return exists(select(1).where(happened))
    # The index holds only rare names, and is used only where the query says so too.
    rare = select(events.c.stream).where(events.c.name == name, events.c.name.not_in(COMMON_EVENTS))
    return messages.c.id.in_(rare)


def _address(column: ColumnElement[str], wanted: str) -> ColumnElement[bool]:
    bare = key(wanted.strip("<>"))
    if "*" not in bare:
        return column == bare
    escaped = bare.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%"), escape="\\")


def _with_recipients(connection: Connection, rows: Sequence[Row[Any]]) -> list[Json]:
    if not rows:
        return []
    positions = [row.position for row in rows]
    found = select(recipients).where(recipients.c.message.in_(positions))
    gathered: dict[int, list[Json]] = {}
    for one in connection.execute(found.order_by(recipients.c.message, recipients.c.number)).mappings():
        gathered.setdefault(one["message"], []).append(
            {
                name: one[name]
                for name in ("address", "state", "next_hop", "reply", "attempts", "retry_at", "routed_by")
            }
        )
    return [_listed(row, gathered.get(row.position, [])) for row in rows]


def _listed(row: Row[Any], its_recipients: list[Json]) -> Json:
    return {
        "id": row.id,
        "direction": row.direction,
        "state": row.state,
        "opened_at": row.opened_at,
        "changed_at": row.changed_at,
        "closed_at": row.closed_at,
        "mailbox": row.mailbox,
        "uidl": row.uidl,
        "reverse_path": row.reverse_path,
        "recipients": its_recipients,
        "message_id": row.message_id,
        "subject": row.subject,
        "from": row.sender,
        "size_octets": row.size_octets,
        "content": row.content,
        "attempts": row.attempts,
        "next_hop": row.next_hop,
        "due_at": row.due_at,
        "position": row.position,
    }


def log_rows(
    connection: Connection,
    *,
    after: int = 0,
    since: datetime | None = None,
    name: str | None = None,
    stream: str | None = None,
    limit: int = 500,
) -> list[Row[Any]]:
    """Return stored events from behind a position, oldest first."""
    query = select(events).where(events.c.position > after).order_by(events.c.position).limit(limit)
    if since is not None:
        query = query.where(events.c.at >= microseconds(since))
    if stream is not None:
        query = query.where(events.c.stream == stream)
    if name is not None:
        query = query.where(events.c.name == name)
        if name not in COMMON_EVENTS:
            query = query.where(events.c.name.not_in(COMMON_EVENTS))
    return list(connection.execute(query).all())
