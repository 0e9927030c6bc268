"""What is open: which next hop each message waits for, or why it is held. For the queue as a person sees it.

Read from the read tables; of what is held, or may be, also the log, which alone knows by whom and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, exists, select

from store import agenda, log, past, queries, schema
from store.errors import Damaged, UnknownEvent
from store.events import Held, MessageEvent, Quarantined
from store.life import Message, due_at, fold
from store.message import NOW_LANE, place_of, waits_at
from store.past import Stood
from store.read_tables import messages
from store.recipient import FATES, Recipient, State
from store.recorded import Recorded
from store.selection import Filter

BATCH = 500
PLAIN = frozenset({"received", "deferred"})  # states that the read tables tell all of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """These recipients are held by this event, or kept in quarantine; none where the message names nobody."""

    event: Held | Quarantined
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An open message: its row, when it is due at each next hop it waits for ("" for not known yet), and what is held.

    While a scanner can't say anything about it, it waits for that and for no next hop: its name is with `life.SCAN_LANE`.
    Where it waits in quarantine and for nothing else, its row says why, and `holds` is empty: there may be very many.
    `ordered`: a person wants it tried now, whatever is known of its next hop.
    """

    row: Json
    due: dict[str, datetime]
    holds: tuple[Hold, ...]
    quarantined: bool = False
    ordered: bool = False


def waiting(
    connection: Connection,
    wanted: Filter = Filter(),  # noqa: B008 - immutable
    at: datetime | None = None,
) -> Iterator[Waiting]:
    """Yield every message that fits and is open, or was at that time, oldest first, in constant memory."""
    rows = past.waiting(connection, wanted, at) if at else map(_now, queries.queue(connection, wanted))
    while some := list(islice(rows, BATCH)):
        lanes = _lanes(connection, some)
        told = {one.row["id"] for one in some if _told(one.row, lanes[one.row["id"]])}
        asked = [one.row["id"] for one in some if one.recorded is None and one.row["id"] not in told]
        known = log.read_many(connection, asked) if asked else {}
        for one in some:
            recorded = None if one.row["id"] in told else known.get(one.row["id"], one.recorded)
            if recorded is not None:
                yield _by_the_log(one.row, recorded)
            else:
                yield _by_its_row(one.row, lanes[one.row["id"]])


def left_to_a_person(connection: Connection, state: State) -> int:
    """Return how many messages of this state somebody has to decide about.

    What is in the agenda may go on by itself, as the log tells; of what can't be read there it is not to be expected.
    """
    due = exists().where(schema.agenda.c.stream == messages.c.id)
    its = select(messages.c.id, due).where(messages.c.state == state).order_by(messages.c.position)
    return sum(not goes_on or _stays(connection, stream) for stream, goes_on in connection.execute(its))


def _stays(connection: Connection, stream: str) -> bool:
    try:
        message = log.message(connection, stream)
    except (Damaged, UnknownEvent):
        return True
    return message is None or any(r.open and r.held and r.held_until is None for r in message.recipients)


def _now(row: Json) -> Stood:
    return Stood(row=row)


def _lanes(connection: Connection, some: Sequence[Stood]) -> dict[str, str]:
    """Return where each waits, or waited; "" also for what is held."""
    plain = [one.row["id"] for one in some if one.lane is None and one.row["state"] in PLAIN]
    now = agenda.lanes_of(connection, plain)
    return {one.row["id"]: now.get(one.row["id"], "") if one.lane is None else one.lane for one in some}


def _told(row: Json, lane: str) -> bool:
    """Whether its row and its lane tell all. Of several next hops that it waits for the log alone knows which is whose."""
    return _quarantined(row) or (_plain(row) and (bool(lane) or row["next_hop"] is None))


def _by_its_row(row: Json, lane: str) -> Waiting:
    if _quarantined(row):
        return Waiting(row=row, due={}, holds=(), quarantined=True)
    return Waiting(row=row, due={place_of(lane): row["due_at"]}, holds=(), ordered=lane.startswith(NOW_LANE))


def _plain(row: Json) -> bool:
    states = _open_states(row)
    return bool(states) and states <= PLAIN


def _quarantined(row: Json) -> bool:
    return _open_states(row) == {"quarantined"}


def _open_states(row: Json) -> set[str]:
    return {one["state"] for one in row["recipients"] if one["state"] not in FATES}


def _by_the_log(row: Json, recorded: Sequence[Recorded]) -> Waiting:
    events = [(r.event, r.at) for r in recorded]
    message = fold(row["id"], events)
    assert message is not None  # it has events
    due: dict[str, datetime] = {}
    for one in message.recipients:
        at = due_at(one, message)
        if at is not None and not one.held:
            _sooner(due, message.place if message.awaited else waits_at(one, message), at)
    held = tuple(holds(message, [event for event, _ in events]))
    return Waiting(row=row, due=due, holds=held, ordered=message.ordered_at is not None)


def holds(message: Message, events: Sequence[Any]) -> Iterator[Hold]:
    """Yield what holds a message now; `events` are its own."""
    if not message.recipients:
        last = next((event for event in reversed(events) if isinstance(event, Held)), None)
        if last is not None:
            yield Hold(event=last, recipients=())
        return
    by: dict[int, list[Recipient]] = {}
    for one in message.recipients:
        if one.held and one.open:
            by.setdefault(_last(one, events), []).append(one)
    for place, those in by.items():
        yield Hold(event=events[place], recipients=tuple(those))


def _last(recipient: Recipient, events: Sequence[MessageEvent]) -> int:
    """Where the event is that holds a recipient."""
    return next(
        place
        for place, event in reversed(list(enumerate(events)))
        if isinstance(event, Held | Quarantined) and (not event.numbers or recipient.number in event.numbers)
    )


def _sooner(due: dict[str, datetime], hop: str, at: datetime) -> None:
    due[hop] = min(due.get(hop, at), at)
