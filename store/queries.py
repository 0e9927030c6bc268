"""Questions about messages and next hops, asked of the read tables.

Every filter that an index can serve uses it; pages are cut by position, never by OFFSET, so the thousandth page
costs what the first does. Rows come out as the plain objects that `--json` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Row, Table, Text, bindparam, exists, func, select

from store import selection
from store.leads import Bounds, Indexed, Span
from store.life import Message
from store.read_tables import exempt, messages, next_hops, recipients
from store.recipient import ATTENTION, State
from store.rows import indexed, message_row, recipient_row
from store.schema import COMMON_EVENTS, Utc, agenda, events, from_microseconds, microseconds
from store.selection import Filter as Filter  # what is asked belongs to the questions

PAGE = 50
RECIPIENT = ("address", "state", "next_hop", "reply", "attempts", "retry_at", "routed_by")

Json = dict[str, Any]


def page(
    connection: Connection, wanted: Filter, *, before: int | None = None, limit: int = PAGE
) -> list[Json]:
    """Return messages, newest first, from below position `before`; each with its recipients and its `position`."""
    return with_recipients(connection, selection.find(connection, wanted, before, limit))


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
    return next(iter(with_recipients(connection, rows)), None)


def outbound_ids(connection: Connection, message_id: str, limit: int = 2) -> list[str]:
    """Return the ids of up to `limit` messages with this Message-ID that go out, our own included, newest first."""
    found = select(messages.c.id).where(
        messages.c.message_id == indexed(message_id), messages.c.direction != "inbound"
    )
    return list(connection.scalars(found.order_by(messages.c.position.desc()).limit(limit)))


def holders(connection: Connection, content: str, message_id: str | None) -> dict[str, tuple[str, State]]:
    """Return who has a message of these very octets already, or is to get it: by address, in lower case.

    For each the message's id and the recipient's state. `content` is the sha256, hex; `message_id` is what its header says.
    """
    of_it = None if message_id is None else indexed(message_id)
    found = (
        select(recipients.c.address_key, messages.c.id, recipients.c.state)
        .join(recipients, recipients.c.message == messages.c.position)
        .where(messages.c.message_id == of_it, messages.c.content == content)
        .order_by(messages.c.position)
    )
    return {address: (stream, state) for address, stream, state in connection.execute(found)}


def ids(connection: Connection, prefix: str, limit: int = 2) -> list[str]:
    """Return up to `limit` ids that begin with `prefix`."""
    above = prefix + "\N{LATIN SMALL LETTER Z}" * 32
    found = select(messages.c.id).where(messages.c.id >= prefix, messages.c.id <= above)
    return list(connection.scalars(found.order_by(messages.c.id).limit(limit)))


def open_count(connection: Connection) -> int:
    """Return how many messages are open."""
    counted = select(func.count()).select_from(messages).where(messages.c.state.in_(ATTENTION))
    return connection.scalar(counted) or 0


def moving_count(connection: Connection) -> int:
    """Return how many messages go on by themselves: those of which somebody's fate is open and waits for no person."""
    moving = [state for state in ATTENTION if state not in ("held", "quarantined")]
    counted = select(func.count(recipients.c.message.distinct())).where(recipients.c.state.in_(moving))
    return connection.scalar(counted) or 0


def queue(connection: Connection, wanted: Filter = Filter(), limit: int = 1000) -> Iterator[Json]:  # noqa: B008 - immutable
    """Yield what is open and fits, oldest first."""
    if wanted.state is not None and wanted.state not in ATTENTION:
        return
    span = selection.between(connection, wanted.since, wanted.until)
    if span is not None and span.first > span.last:
        return
    states = () if wanted.state is not None else (Indexed(messages.c.state, ATTENTION),)
    leads = selection.fewest_first(connection, [*states, *selection.leads_of(wanted)], span)
    after = 0
    while True:
        bounds = Bounds(span, after=after)
        found = selection.chosen(wanted, leads, bounds, newest_first=False).limit(limit)
        rows = connection.execute(found).all()
        yield from with_recipients(connection, rows)
        if len(rows) < limit:
            return
        after = rows[-1].position


def quarantined(
    connection: Connection, before: datetime, after: int, limit: int, *, with_exempt: bool = True
) -> list[tuple[int, str, int, str]]:
    """Return position, id, size and why of up to `limit` messages in quarantine from behind position `after`, oldest first.

    All that are there since `before` are among them; those that are exempt from retention unless they are not asked for.
    """
    span = selection.between(connection, None, before) or Span(1, 0)
    found = select(
        messages.c.position, messages.c.id, messages.c.size_octets, messages.c.quarantined_why
    ).where(
        messages.c.state == "quarantined",
        messages.c.position > after,
        messages.c.position <= span.last,
        messages.c.opened_at <= before,
    )
    if not with_exempt:
        found = found.where(~exists().where(exempt.c.message == messages.c.position))
    return [tuple(row) for row in connection.execute(found.order_by(messages.c.position).limit(limit))]


def hops(connection: Connection, limit: int | None = None) -> list[Json]:
    """Return the standing of each next hop of which anything is known, or of the first so many, by name."""
    return [
        {
            "next_hop": row["name"],
            "failures": row["failures"],
            "since": row["since"],
            "probe_at": row["probe_at"],
            "reply": row["reply"],
            "size_limit_octets": row["size_limit_octets"],
        }
        for row in connection.execute(select(next_hops).order_by(next_hops.c.name).limit(limit)).mappings()
    ]


def open_by_hop(connection: Connection) -> list[Json]:
    """Return how many messages are open and when the oldest came in, by next hop (None: not known yet) and state."""
    found = (
        select(
            messages.c.next_hop,
            messages.c.state,
            func.count().label("messages"),
            func.min(messages.c.opened_at).label("oldest"),
        )
        .where(messages.c.state.in_(ATTENTION))
        .group_by(messages.c.next_hop, messages.c.state)
        .order_by(messages.c.next_hop, messages.c.state)
    )
    return [dict(row) for row in connection.execute(found).mappings()]


def lease(connection: Connection, message_id: str) -> Json | None:
    """Return a message's place in the agenda, None where it has none."""
    row = connection.execute(select(agenda).where(agenda.c.stream == message_id)).mappings().first()
    return dict(row) if row else None


def with_recipients(connection: Connection, rows: Sequence[Row[Any]]) -> list[Json]:
    """Return these rows of messages with those of their recipients."""
    if not rows:
        return []
    positions = [row.position for row in rows]
    found = select(recipients).where(recipients.c.message.in_(positions))
    gathered: dict[int, list[Json]] = {}
    for one in connection.execute(found.order_by(recipients.c.message, recipients.c.number)).mappings():
        gathered.setdefault(one["message"], []).append({name: one[name] for name in RECIPIENT})
    return [_listed(row, gathered.get(row.position, [])) for row in rows]


def told(position: int, message: Message) -> Json:
    """Return a message that the log adds up to as its row would tell it."""
    row = SimpleNamespace(**_with_times(message_row(position, message), messages))
    its = (_with_times(recipient_row(position, message, one), recipients) for one in message.recipients)
    return _listed(row, [{name: one[name] for name in RECIPIENT} for one in its])


def _with_times(row: Json, table: Table) -> Json:
    """A row as it goes to the driver, with times in place of microseconds."""
    timed = {column.name for column in table.c if isinstance(column.type, Utc)}
    return {k: from_microseconds(v) if k in timed and v is not None else v for k, v in row.items()}


def _listed(row: Any, its_recipients: list[Json]) -> Json:
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
        "quarantined_why": row.quarantined_why,
        "quarantined_by": row.quarantined_by,
        "position": row.position,
    }


# The index holds only rare names. It is used where the query says so too, in letters: a parameter might be anything.
_rare = events.c.name.not_in(
    bindparam("common", COMMON_EVENTS, expanding=True, literal_execute=True, type_=Text)
)


def log_rows(
    connection: Connection,
    *,
    after: int = 0,
    since: datetime | None = None,
    until: datetime | None = None,
    name: str | None = None,
    stream: str | None = None,
    limit: int = 500,
) -> list[Row[Any]]:
    """Return stored events from behind a position, oldest first; `until` is the first time that is too late."""
    span = selection.between(connection, since, until)
    if span is not None and span.first > span.last:
        return []
    query = select(events).where(events.c.position > max(after, span.first - 1 if span else 0))
    query = query.order_by(events.c.position).limit(limit)
    if since is not None:
        query = query.where(events.c.at >= microseconds(since))
    if until is not None and span is not None:
        query = query.where(events.c.at < microseconds(until), events.c.position <= span.last)
    if stream is not None:
        query = query.where(events.c.stream == stream)
    if name is not None:
        query = query.where(events.c.name == name)
        if name not in COMMON_EVENTS:
            query = query.where(_rare)
    return list(connection.execute(query).all())
