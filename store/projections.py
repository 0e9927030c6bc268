"""The read tables: what the log adds up to, in rows that can be asked.

Written inside append's transaction from the same fold the engine decides on, so there is no lag and no second
meaning. Derived from the log alone: `rebuild` makes them anew and arrives at the same rows.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, update

from store import next_hop_rows, writes
from store.events import (
    Attempted,
    Downloaded,
    Event,
    Generated,
    Kept,
    KeptNoLonger,
    RedeliveryRequested,
    RejectedOversize,
    RemovedFromSource,
)
from store.life import Message
from store.mailbox_events import MAILBOX_PREFIX, Adopted
from store.mailbox_life import Mailbox
from store.read_tables import mailboxes
from store.rows import (
    Row,
    changed_row,
    found_anew,
    hop_rows,
    joined_rows,
    mailbox_row,
    message_row,
    moved_rows,
    part_of,
    recipient_row,
    removed_row,
    subject_row,
    superseded,
    text_row,
    uidl_digest,
    uidl_octets,
    uidl_row,
)
from store.schema import hour
from store.tallies import Tallies
from store.told import TELL, row_of

# What nearly every message has, and its own row tells (`queries`): not worth a row of its own.
TOLD_BY_ROW = frozenset({Downloaded.NAME, Attempted.NAME})


class Changes:
    """What a batch of appended events does to the read tables, gathered by statement."""

    def __init__(self) -> None:
        self.opened: dict[str, tuple[int, Message]] = {}
        self.changed: dict[str, tuple[Message, Message]] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.happenings: set[tuple[str, str]] = set()
        self.hours: dict[int, tuple[int, int]] = {}
        self.tallies = Tallies()
        self.taken: list[Row] = []
        self.removed: list[Row] = []
        self.forgotten: list[Row] = []
        self.fetched_again: list[Row] = []
        self.exempt: dict[str, bool] = {}
        self.told: dict[tuple[object, object], Row] = {}
        self.hops: dict[str, list[next_hop_rows.Change]] = {}

    def happened(self, stream: str, event: Event, position: int, at: datetime) -> None:
        """Take note of one event, in the order of the log."""
        self._stretch(hour(at), position)
        if event.NAME not in TOLD_BY_ROW and not stream.startswith(MAILBOX_PREFIX):
            self.happenings.add((event.NAME, stream))
        if isinstance(event, RedeliveryRequested) and event.replay is not None:
            self.happenings.add((part_of(event.replay), stream))
        if isinstance(event, Attempted):
            return
        if (told := next_hop_rows.change(event, at, position)) is not None:
            self.hops.setdefault(told[0], []).append(told[1])
        match event:
            case Downloaded():
                self.taken.append(
                    uidl_row(position, 0, stream, event.mailbox, event.uidl, event.listed_octets)
                )
            case RejectedOversize(numbers=()) if event.mailbox is not None and event.uidl is not None:
                self.taken.append(uidl_row(position, 0, stream, event.mailbox, event.uidl, event.size_octets))
            case Adopted():
                self.taken += [
                    uidl_row(position, number, one.message, event.mailbox, one.uidl, one.size_octets)
                    for number, one in enumerate(event.uidls)
                ]
                self.removed += superseded(event, position)
            case RemovedFromSource() if stream.startswith(MAILBOX_PREFIX):
                digest = uidl_digest(uidl_octets(event.uidl))
                self.forgotten.append(
                    {"the_mailbox": event.mailbox, "the_digest": digest, "before": position}
                )
            case RemovedFromSource():
                self.removed.append(removed_row(stream, event.uidl, position))
            case RedeliveryRequested() if not event.numbers and not event.added:
                self.fetched_again.append({"the_stream": stream, "before": position})
            case Generated():
                if (row := row_of(stream, event, at)) is not None:
                    self.told[row["what"], row["name"]] = row
            case Kept() | KeptNoLonger():
                self.exempt[stream] = isinstance(event, Kept)
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
        writes.OPEN.many(connection, [message_row(position, message) for position, message in opened])
        writes.ARRIVE.many(connection, [recipient_row(p, m, r) for p, m in opened for r in m.recipients])
        writes.JOIN.many(connection, [row for pair in self.changed.values() for row in joined_rows(*pair)])
        writes.WORD.many(connection, [text_row(position, message) for position, message in opened])
        writes.HEAD.many(connection, [subject_row(p, m) for p, m in opened if m.subject is not None])
        writes.FIND_ANEW.many(
            connection,
            [found_anew(m) for b, m in self.changed.values() if len(m.recipients) > len(b.recipients)],
        )
        writes.HOPS.many(connection, [row for _, message in opened for row in hop_rows(None, message)])
        writes.HOPS.many(connection, [row for pair in self.changed.values() for row in hop_rows(*pair)])
        writes.HAPPEN.many(
            connection, [{"name": name, "stream": stream} for name, stream in sorted(self.happenings)]
        )
        writes.STRETCH.many(
            connection, [{"hour": h, "first": f, "last": t} for h, (f, t) in self.hours.items()]
        )
        self.tallies.write(connection)
        writes.TAKE.many(connection, self.taken)
        writes.CHANGE.many(connection, [changed_row(after) for _, after in self.changed.values()])
        writes.MOVE.many(connection, [row for pair in self.changed.values() for row in moved_rows(*pair)])
        writes.REMOVE.many(connection, self.removed)
        writes.FORGET.many(connection, self.forgotten)
        writes.FETCH_AGAIN.many(connection, self.fetched_again)
        TELL.many(connection, list(self.told.values()))
        writes.EXEMPT.many(connection, [{"stream": stream} for stream, now in self.exempt.items() if now])
        writes.EXEMPT_NO_LONGER.many(connection, [{"the_id": s} for s, now in self.exempt.items() if not now])
        for name, changes in self.hops.items():
            next_hop_rows.write(connection, name, changes)
        for mailbox in self.mailboxes.values():
            _write_mailbox(connection, mailbox)

    def _stretch(self, its_hour: int, position: int) -> None:
        first, _ = self.hours.get(its_hour, (position, position))
        self.hours[its_hour] = (first, position)  # positions only grow


def _write_mailbox(connection: Connection, mailbox: Mailbox) -> None:
    row = mailbox_row(mailbox)
    changed = connection.execute(update(mailboxes).where(mailboxes.c.name == mailbox.name).values(row))
    if changed.rowcount == 0:
        connection.execute(insert(mailboxes), row)
