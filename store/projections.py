"""The read tables: what the log adds up to, in rows that can be asked.

Written inside append's transaction from the same fold the engine decides on, so there is no lag and no second
meaning. Derived from the log alone: `rebuild` makes them anew and arrives at the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    true,
    update,
)

from store.events import (
    MAILBOX_PREFIX,
    Adopted,
    Attempted,
    Deferred,
    Delivered,
    Downloaded,
    Event,
    RejectedOversize,
    Relayed,
    RemovedFromSource,
)
from store.life import Mailbox, Message, Recipient
from store.schema import (
    Utc,
    from_microseconds,
    hour,
    mailboxes,
    messages,
    microseconds,
    next_hops,
    recipients,
    uidls,
)
from store.statement import Lookup, Statement

# Postgres refuses a row whose index entry is over 2,704 octets: such a message could never be taken in.
INDEXED_OCTETS = 2_000
UIDL_DIGEST_OCTETS = 16  # enough to tell UIDLs of one mailbox apart; the whole one is compared after

# What nearly every message has, and its own row tells (`queries`): not worth a row of its own.
TOLD_BY_ROW = frozenset({Downloaded.NAME, Attempted.NAME})

Row = dict[str, Any]


class Changes:
    """What a batch of appended events does to the read tables, gathered by statement."""

    def __init__(self) -> None:
        self.opened: dict[str, tuple[int, Message]] = {}
        self.changed: dict[str, tuple[Message, Message]] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.happenings: set[tuple[str, str]] = set()
        self.hours: dict[int, tuple[int, int]] = {}
        self.taken: list[Row] = []
        self.removed: list[Row] = []
        self.forgotten: list[Row] = []
        self.hops: dict[str, list[Callable[[Row], Row]]] = {}

    def happened(self, stream: str, event: Event, position: int, at: datetime) -> None:
        """Take note of one event, in the order of the log."""
        self._stretch(hour(at), position)
        if event.NAME not in TOLD_BY_ROW and not stream.startswith(MAILBOX_PREFIX):
            self.happenings.add((event.NAME, stream))
        match event:
            case Downloaded():
                self.taken.append(_uidl(position, 0, stream, event.mailbox, event.uidl, event.listed_octets))
            case RejectedOversize():
                if event.mailbox is not None and event.uidl is not None:
                    self.taken.append(
                        _uidl(position, 0, stream, event.mailbox, event.uidl, event.size_octets)
                    )
                elif event.next_hop is not None:
                    limit = event.limit_octets
                    self.hops.setdefault(event.next_hop, []).append(lambda row: _hop_limit(row, limit))
            case Adopted():
                self.taken += [
                    _uidl(position, number, one.message, event.mailbox, one.uidl, one.size_octets)
                    for number, one in enumerate(event.uidls)
                ]
            case RemovedFromSource() if stream.startswith(MAILBOX_PREFIX):
                digest = uidl_digest(uidl_octets(event.uidl))
                self.forgotten.append(
                    {"the_mailbox": event.mailbox, "the_digest": digest, "before": position}
                )
            case RemovedFromSource():
                digest = uidl_digest(uidl_octets(event.uidl))
                self.removed.append({"the_stream": stream, "the_digest": digest, "before": position})
            case Delivered() | Relayed():
                self.hops.setdefault(event.next_hop, []).append(lambda row: _hop_up(row, at))
            case Deferred() if event.scope == "next-hop" and event.tried:
                self.hops.setdefault(event.next_hop, []).append(lambda row: _hop_down(row, event, at))
            case _:
                pass

    def add(
        self, stream: str, before: Message | Mailbox | None, after: Message | Mailbox, position: int
    ) -> None:
        """Take note of what a stream adds up to now; `position` is of its first event in this append."""
        if isinstance(after, Mailbox):
            self.mailboxes[after.name] = after
        elif before is None:
            self.opened[stream] = (position, after)
        elif stream in self.opened:
            self.opened[stream] = (self.opened[stream][0], after)
        elif isinstance(before, Message):
            first = self.changed[stream][0] if stream in self.changed else before
            self.changed[stream] = (first, after)

    def write(self, connection: Connection) -> None:
        """Write it all, with few statements."""
        opened = self.opened.values()
        _OPEN.many(connection, [_message(position, message) for position, message in opened])
        _ARRIVE.many(connection, [_recipient(p, m, r) for p, m in opened for r in m.recipients])
        _HAPPEN.many(
            connection, [{"name": name, "stream": stream} for name, stream in sorted(self.happenings)]
        )
        _STRETCH.many(connection, [{"hour": h, "first": f, "last": t} for h, (f, t) in self.hours.items()])
        _TAKE.many(connection, self.taken)
        _CHANGE.many(connection, [_changed(after) for _, after in self.changed.values()])
        _MOVE.many(connection, [row for pair in self.changed.values() for row in _moved(*pair)])
        _REMOVE.many(connection, self.removed)
        _FORGET.many(connection, self.forgotten)
        for name, changes in self.hops.items():
            _write_hop(connection, name, changes)
        for mailbox in self.mailboxes.values():
            _write_mailbox(connection, mailbox)

    def _stretch(self, its_hour: int, position: int) -> None:
        first, last = self.hours.get(its_hour, (position, position))
        self.hours[its_hour] = (min(first, position), max(last, position))


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
    whole = _text(text)
    if len(whole) * 4 <= INDEXED_OCTETS:
        return whole
    return whole.encode()[:INDEXED_OCTETS].decode(errors="ignore")


def _assigned(*names: str, table: Table) -> dict[str, BindParameter[Any]]:
    """Return parameters for these columns, named apart from those of the WHERE; times as they are stored."""
    types = {name: table.c[name].type for name in names}
    plain = {name: BigInteger() if isinstance(kind, Utc) else kind for name, kind in types.items()}
    return {name: bindparam(f"new_{name}", type_=kind) for name, kind in plain.items()}


_its_id = bindparam("the_id", type_=Text)
_its_position = select(messages.c.position).where(messages.c.id == _its_id).scalar_subquery()
_OPEN = Statement(insert(messages))
_ARRIVE = Statement(insert(recipients))
_TAKE = Statement(insert(uidls))
_CHANGE = Statement(
    update(messages)
    .where(messages.c.id == _its_id)
    .values(_assigned("state", "changed_at", "closed_at", "attempts", "next_hop", "due_at", table=messages))
)
_MOVE = Statement(
    update(recipients)
    .where(
        recipients.c.message == _its_position, recipients.c.number == bindparam("the_number", type_=Integer)
    )
    .values(
        _assigned("state", "next_hop", "reply", "attempts", "unknown_attempts", "retry_at", table=recipients)
    )
)
# Both databases read these two as they stand; SQLAlchemy has the conflict clause for each apart.
_HAPPEN = Statement(
    text(
        "INSERT INTO happenings (name, message) SELECT CAST(:name AS TEXT), position FROM messages WHERE id = :stream"
        " ON CONFLICT DO NOTHING"
    )
)
_STRETCH = Statement(
    text(
        "INSERT INTO hours (hour, first, last) VALUES (:hour, :first, :last) ON CONFLICT (hour) DO UPDATE SET"
        " first = CASE WHEN excluded.first < hours.first THEN excluded.first ELSE hours.first END,"
        " last = CASE WHEN excluded.last > hours.last THEN excluded.last ELSE hours.last END"
    )
)
_earlier = uidls.c.position < bindparam("before", type_=BigInteger)
_REMOVE = Statement(
    update(uidls)
    .where(
        uidls.c.stream == bindparam("the_stream", type_=Text),
        # A copy under another UIDL may still be there.
        uidls.c.digest == bindparam("the_digest", type_=LargeBinary),
        _earlier,
    )
    .values(gone=true())
)
_FORGET = Statement(
    update(uidls)
    .where(
        uidls.c.mailbox == bindparam("the_mailbox", type_=Text),
        uidls.c.digest == bindparam("the_digest", type_=LargeBinary),
        uidls.c.stream.is_(None),
        _earlier,
    )
    .values(gone=true())
)


_COLUMNS = ", ".join(f"h.{name}" for name in next_hops.c.keys())  # noqa: SIM118 - a column collection is no dict
_HOP = Lookup(
    sqlite=f"SELECT {_COLUMNS} FROM json_each(:wanted) w JOIN next_hops h ON h.name = w.value",  # noqa: S608
    postgres=f"SELECT {_COLUMNS} FROM jsonb_array_elements_text(%(wanted)s::jsonb) w"  # noqa: S608
    " JOIN next_hops h ON h.name = w",
)


def _time(at: datetime | None) -> int | None:
    return None if at is None else microseconds(at)


def _message(position: int, message: Message) -> Row:
    return {
        "position": position,
        "id": message.id,
        "direction": message.direction,
        "opened_at": _time(message.opened_at),
        "mailbox": message.mailbox,
        "uidl": _optional(message.uidl),
        "reverse_path": _text(message.reverse_path),
        "reverse_path_key": key(message.reverse_path),
        "message_id": None if message.message_id is None else indexed(message.message_id),
        "subject": _optional(message.subject),
        "sender": _optional(message.sender),
        "size_octets": message.size_octets,
        "content": message.content,
        **_standing(message),
    }


def _standing(message: Message) -> Row:
    """Return the columns that change during a message's life."""
    return {
        "state": message.state,
        "changed_at": _time(message.changed_at),
        "closed_at": _time(message.closed_at),
        "attempts": message.attempts,
        "next_hop": next((r.next_hop for r in message.recipients if r.next_hop), message.first_hop),
        "due_at": _time(message.due_at),
    }


def _changed(message: Message) -> Row:
    return {"the_id": message.id} | {f"new_{name}": value for name, value in _standing(message).items()}


def _recipient(position: int, message: Message, recipient: Recipient) -> Row:
    return {
        "message": position,
        "number": recipient.number,
        "address": _text(recipient.address),
        "address_key": key(recipient.address),
        "routed_by": _text(recipient.routed_by),
        **_fate(recipient),
    }


def _fate(recipient: Recipient) -> Row:
    return {
        "state": recipient.state,
        "next_hop": recipient.next_hop,
        "reply": _optional(recipient.reply),
        "attempts": recipient.attempts,
        "unknown_attempts": recipient.unknown_attempts,
        "retry_at": _time(recipient.retry_at),
    }


def _moved(before: Message, after: Message) -> Iterable[Row]:
    for old, new in zip(before.recipients, after.recipients, strict=True):
        if old != new:
            fate = {f"new_{name}": value for name, value in _fate(new).items()}
            yield {"the_id": after.id, "the_number": new.number, **fate}


def _uidl(position: int, number: int, stream: str | None, mailbox: str, uidl: str, size_octets: int) -> Row:
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


def _hop_up(row: Row, at: datetime) -> Row:
    if row["failures"] == 0:
        return row
    return row | {"failures": 0, "since": microseconds(at), "probe_at": None, "reply": None}


def _hop_down(row: Row, event: Deferred, at: datetime) -> Row:
    probe_at = microseconds(event.retry_at)
    if row["failures"] and row["probe_at"] == probe_at:
        return row  # another message of the same failure
    since = row["since"] if row["failures"] else microseconds(at)
    return row | {
        "failures": row["failures"] + 1,
        "since": since,
        "probe_at": probe_at,
        "reply": _optional(event.reply),
    }


def _hop_limit(row: Row, limit_octets: int) -> Row:
    known = row["size_limit_octets"]
    return row | {"size_limit_octets": limit_octets if known is None else min(known, limit_octets)}


def _write_hop(connection: Connection, name: str, changes: list[Callable[[Row], Row]]) -> None:
    found = _HOP.rows(connection, [name])
    before: Row = dict(zip(next_hops.c.keys(), found[0], strict=True)) if found else _new_hop(name)
    after = before
    for change in changes:
        after = change(after)
    if not found:
        connection.execute(insert(next_hops), _with_times(after))
    elif after != before:
        connection.execute(update(next_hops).where(next_hops.c.name == name).values(_with_times(after)))


def _with_times(row: Row) -> Row:
    """Rows come from the driver with microseconds, and go to SQLAlchemy as times."""
    return {
        k: from_microseconds(v) if k in ("since", "probe_at") and v is not None else v for k, v in row.items()
    }


def _new_hop(name: str) -> Row:
    return {
        "name": name,
        "failures": 0,
        "since": None,
        "probe_at": None,
        "reply": None,
        "size_limit_octets": None,
    }


def _write_mailbox(connection: Connection, mailbox: Mailbox) -> None:
    row = {
        "name": mailbox.name,
        "revision": mailbox.revision,
        "health": mailbox.health,
        "since": mailbox.since,
        "kind": mailbox.kind,
        "permanent": mailbox.permanent,
        "text": _optional(mailbox.text),
        "last_new_at": mailbox.last_new_at,
        "downloaded": mailbox.downloaded,
    }
    changed = connection.execute(update(mailboxes).where(mailboxes.c.name == mailbox.name).values(row))
    if changed.rowcount == 0:
        connection.execute(insert(mailboxes), row)


def _text(value: str) -> str:
    """Postgres stores no NUL in a text; the event keeps it."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value


def _optional(value: str | None) -> str | None:
    return None if value is None else _text(value)
