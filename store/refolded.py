"""What some streams add up to, as rows of the read tables and of the agenda: `rebuild` writes them.

Nothing here depends on the order of the log between streams, and nothing is written: so other processes can do it, each for some
of the streams. Rows are made by the fold and the functions that live writing uses (`life`, `rows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter
from typing import NamedTuple, cast

from sqlalchemy import Connection, insert

from store import log, pages, told
from store.agenda import first_fence
from store.codec import CLASSES, decode_at
from store.events import (
    Delivered,
    Downloaded,
    Event,
    Generated,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    RemovedFromSource,
)
from store.life import fold
from store.mailbox_events import MAILBOX_PREFIX, Adopted
from store.mailbox_life import fold_mailbox
from store.message import DOMAIN_HOP, Message
from store.projections import TOLD_BY_ROW
from store.read_tables import (
    exempt,
    happenings,
    hops,
    mailboxes,
    messages,
    recipients,
    subjects,
    texts,
    uidls,
)
from store.rows import (
    Row,
    hop_rows,
    mailbox_row,
    message_row,
    part_of,
    recipient_row,
    subject_row,
    superseded,
    text_row,
    uidl_row,
)
from store.schema import HOUR, MICROSECOND, agenda, from_microseconds, microseconds
from store.statement import Parcel, Statement
from store.tallies import ADD, Tallies
from store.writes import STRETCH

HOUR_MICROSECONDS = HOUR // MICROSECOND
LOOK_UP = 500  # streams at a time
_NEVER = (2**63 - 1, 0)  # between which positions no event of an hour is
_TAKING = frozenset({Downloaded, RejectedOversize})
_GIVING_UP = frozenset({RemovedFromSource, RedeliveryRequested})
_TOOK = frozenset({Delivered, Relayed})
_TOLD_BY_ROW = frozenset(CLASSES[name] for name in TOLD_BY_ROW)

_ALONE = (messages, recipients, texts, subjects, happenings, hops, uidls, exempt, mailboxes, agenda)
# By the name of the table. A row of the last three may be there already, from other streams.
STATEMENTS = {
    **{str(table.name): Statement(insert(table)) for table in _ALONE},
    "hours": STRETCH,
    "tallies": ADD,
    "told": told.TELL,
}


# One event of a stream: its position, its time, what it says. No class, for speed.
Told = tuple[int, datetime, Event]


class Part(NamedTuple):
    """What some streams add up to, in plain values that go from one process to another.

    `parcels` are by the name of the table (`STATEMENTS`), as the database's driver takes them. `notices` are rows of `told`, each
    with the position of the event that tells it: of several about one thing the last counts. `working` are the next hops that
    took something, but no domains. `superseded` are UIDLs under which something is known anew (`writes.REMOVE`).
    """

    events: int
    parcels: dict[str, list[Parcel]]
    notices: list[tuple[int, Row]]
    working: set[str]
    superseded: list[Row]


class Refolded:
    """Rows of the read tables, by table."""

    def __init__(self) -> None:
        self.events = 0
        self.rows: dict[str, list[Row]] = {name: [] for name in STATEMENTS}
        self._notices: list[tuple[int, Row]] = []
        self._working: set[str] = set()
        self._superseded: list[Row] = []
        self._hours: dict[int, tuple[int, int]] = {}
        self._tallies = Tallies()

    def add(self, connection: Connection, stream: str, events: Iterator[pages.Row]) -> None:
        """Add what a stream adds up to; `events` are its rows, as `COLUMNS` has them."""
        story = self._counted(events)
        if stream.startswith(MAILBOX_PREFIX):
            self._mailbox(connection, stream, story)
        else:
            self._message(stream, list(story))

    def part(self, dialect: str) -> Part:
        """Return it all as the database's driver takes it."""
        rows = self.rows | {
            "hours": [{"hour": h, "first": f, "last": t} for h, (f, t) in self._hours.items()],
            "tallies": self._tallies.rows(),
        }
        parcels = {name: STATEMENTS[name].packed(dialect, its) for name, its in rows.items() if its}
        return Part(self.events, parcels, self._notices, self._working, self._superseded)

    def _counted(self, events: Iterator[pages.Row]) -> Iterator[Told]:
        hours = self._hours
        for _, _, position, name, version, at, data, personal in events:
            self.events += 1
            hour = at // HOUR_MICROSECONDS
            first, last = hours.get(hour, _NEVER)
            if not first <= position <= last:
                hours[hour] = (min(first, position), max(last, position))
            yield position, from_microseconds(at), decode_at(position, name, version, data, personal)

    def _message(self, stream: str, story: list[Told]) -> None:
        message = fold(stream, ((event, at) for _, at, event in story))
        assert message is not None  # for there is an event
        opened, rows = story[0][0], self.rows
        rows["messages"].append(message_row(opened, message))
        rows["recipients"] += [recipient_row(opened, message, r) for r in message.recipients]
        rows["texts"].append(text_row(opened, message))
        if message.subject is not None:
            rows["subjects"].append(subject_row(opened, message))
        rows["hops"] += [{"name": row["name"], "message": opened} for row in hop_rows(None, message)]
        rows["uidls"] += _taken(stream, story)
        if message.exempt_since is not None:
            rows["exempt"].append({"message": opened})
        if message.due_at is not None:
            rows["agenda"].append(_due(message, message.due_at))
        kinds = {type(event) for _, _, event in story}
        names = {kind.NAME for kind in kinds - _TOLD_BY_ROW} | {part_of(one) for one in message.replays}
        rows["happenings"] += [{"name": name, "message": opened} for name in names]
        for position, at, event in story:
            self._tallies.add(message, event, at)
            kind = type(event)  # to match it against classes would take several times as long
            if kind in _TOOK:
                self._took(cast(Delivered | Relayed, event))
            elif kind is Generated and (row := told.row_of(stream, cast(Generated, event), at)) is not None:
                self._notices.append((position, row))

    def _took(self, event: Delivered | Relayed) -> None:
        reported = isinstance(event, Delivered) and event.report is not None
        if not reported and not event.next_hop.startswith(DOMAIN_HOP):
            self._working.add(event.next_hop)

    def _mailbox(self, connection: Connection, stream: str, story: Iterator[Told]) -> None:
        name = stream.removeprefix(MAILBOX_PREFIX)
        adopted: dict[str, list[Row]] = {}  # by UIDL: of those that no message is known of
        known: list[Row] = []

        def noted() -> Iterator[tuple[Event, datetime]]:
            for position, at, event in story:
                if isinstance(event, Adopted):
                    self._superseded.extend(superseded(event, position))
                    for number, one in enumerate(event.uidls):
                        row = uidl_row(position, number, one.message, name, one.uidl, one.size_octets)
                        its = known if one.message is not None else adopted.setdefault(one.uidl, [])
                        its.append(row)
                elif isinstance(event, RemovedFromSource):
                    for row in adopted.get(event.uidl, ()):
                        row["gone"] = True
                yield event, at

        self.rows["mailboxes"].append(_plain(mailbox_row(fold_mailbox(name, noted()))))
        self.rows["uidls"] += chain.from_iterable(adopted.values())
        self.rows["uidls"] += _looked_up(connection, known)


COLUMNS = ("position", "name", "version", "at", "data", "personal")


def refold(connection: Connection, after: str = "", until: str | None = None) -> Iterator[Part]:
    """Yield what the streams behind one name up to another add up to, about a page of events at a time."""
    found, dialect = Refolded(), connection.dialect.name
    rows = chain.from_iterable(pages.by_stream(connection, COLUMNS, after, until))
    for stream, events in groupby(rows, key=itemgetter(0)):
        found.add(connection, stream, events)
        if found.events >= pages.PAGE_ROWS:
            yield found.part(dialect)
            found = Refolded()
    yield found.part(dialect)


def _taken(stream: str, story: list[Told]) -> Iterator[Row]:
    """Yield the UIDLs that these events took, and whether the mailbox holds them still."""
    for position, _, event in story:
        if type(event) not in _TAKING:
            continue
        assert isinstance(event, Downloaded | RejectedOversize)
        if isinstance(event, RejectedOversize) and event.numbers:
            continue  # it was here already
        octets = event.listed_octets if isinstance(event, Downloaded) else event.size_octets
        if event.mailbox is not None and event.uidl is not None:
            row = uidl_row(position, 0, stream, event.mailbox, event.uidl, octets)
            row["gone"] = _gone(position, event.uidl, story)
            yield row


def _looked_up(connection: Connection, rows: list[Row]) -> Iterator[Row]:
    """Yield the UIDLs under which a mailbox holds messages known before, and whether it does still."""
    for begin in range(0, len(rows), LOOK_UP):
        some = rows[begin : begin + LOOK_UP]
        stories = log.read_many(connection, list({row["stream"] for row in some}))
        for row in some:
            its = [(r.position, r.at, r.event) for r in stories.get(row["stream"], ())]
            yield row | {"gone": _gone(row["position"], row["uidl"].decode("latin-1"), its)}


def _gone(position: int, uidl: str, story: list[Told]) -> bool:
    """Whether a UIDL that was taken at this position was given up later: removed, or asked for again."""
    for later, _, event in story:
        if type(event) not in _GIVING_UP or later <= position:
            continue
        match event:
            case RemovedFromSource() if event.uidl == uidl:
                return True
            # What was never fetched and is to be: the next listing that shows it shows something new.
            case RedeliveryRequested() if not event.numbers and not event.added:
                return True
    return False


def _due(message: Message, at: datetime) -> Row:
    return {
        "stream": message.id,
        "lane": message.lane,
        "wake_at": microseconds(at),
        "holder": None,
        "lease_until": None,
        "fence": first_fence(message),
    }


def _plain(row: Row) -> Row:
    """Return a row with its times as the driver takes them."""
    return {k: microseconds(v) if isinstance(v, datetime) else v for k, v in row.items()}
