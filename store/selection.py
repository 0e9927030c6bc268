"""Which messages a filter means, as a query that costs what the page holds, not what the store holds.

Messages come newest first, in the order of their positions. Every index ends with the position, so that whichever leads
gives this order without sorting. One filter leads, by its index; of several, the one that fewest messages fit, which is
counted, for a database without statistics can't know it and one with them may be wrong. The others are checked row by row, and
are written so that no index serves them. A span of time becomes a span of positions. What is inside a word no index finds: a
fragment of the subject leads only where nothing else does, and then goes through the narrow rows made for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    exists,
    func,
    literal,
    select,
    type_coerce,
)

from store.events import Attempted, Direction, Downloaded
from store.folding import asked_words, certain_words, folded
from store.leads import Addressed, Bounds, Exempt, Fragment, Indexed, Lead, Span, Worded
from store.projections import TOLD_BY_ROW
from store.read_tables import SLOW, happenings, hops, hours, messages, recipients, slow
from store.recipient import State
from store.rows import indexed, key, part_of
from store.schema import MICROSECOND, hour
from store.searching import has_words, wanted_words

time_taken = type_coerce(messages.c.closed_at, BigInteger) - type_coerce(messages.c.opened_at, BigInteger)
# Index entries counted to find who leads: half a millisecond of work. Where every filter fits more, each finds a page soon.
COUNTED = 10_000
FEW = 2_000  # messages with a word that are sooner sorted than found among all
PROBED = 500  # messages looked at before anything is counted: some tenths of a millisecond
SOON = 10  # of these with a word: a page is full before long


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What `list` was asked for; None asks for anything. Addresses are exact, or patterns with `*`."""

    sender: str | None = None
    recipient: str | None = None
    subject: str | None = None  # a fragment
    text: str | None = None  # words of subject and addresses, in any order; one that ends with `*` may go on
    message_id: str | None = None
    mailbox: str | None = None
    state: State | None = None
    direction: Direction | None = None
    next_hop: str | None = None  # where it was to go or was tried; "mx" is every one of direct delivery
    since: datetime | None = None
    until: datetime | None = None
    event: str | None = None
    reply: str | None = None  # the last one to a recipient; "" for none on record
    slower: timedelta | None = None  # took so long or longer, from its arrival until it was closed
    faster: timedelta | None = None  # took less
    kept: bool = False  # only what is exempt from retention
    replay: str | None = None  # the id of one that it was part of


def find(connection: Connection, wanted: Filter, before: int | None, limit: int) -> Sequence[Row[Any]]:
    """Return rows of messages, newest first, from below position `before`."""
    span = between(connection, wanted.since, wanted.until)
    if span is not None and span.first > span.last:
        return []
    leads = weighed(connection, wanted, Bounds(span, before))
    return asked(connection, leads, chosen(wanted, leads, Bounds(span, before)).limit(limit))


def weighed(connection: Connection, wanted: Filter, bounds: Bounds) -> list[Lead]:
    """Return the filters that may lead, in the order in which they should."""
    leads = fewest_first(connection, list(leads_of(wanted)), bounds.span)
    if leads and isinstance(leads[0], Worded) and connection.dialect.name == "postgresql":
        lead = leads[0]
        few = not _found_soon(connection, lead, bounds)
        if few:  # as it seems
            (count,) = _counts(connection, [lead], bounds.span, FEW)
            few = count < FEW
        leads[0] = lead._replace(few=few)
    return leads


def _found_soon(connection: Connection, lead: Worded, bounds: Bounds) -> bool:
    """Whether the first messages of a page have enough with these words: counting goes through all that the index finds."""
    first = select(lead.column).where(*bounds.on(lead.place)).order_by(lead.place.desc()).limit(PROBED)
    its = first.subquery()
    fit = select(func.count()).select_from(its).where(has_words(its.c.words, wanted_words(lead.words)))
    return (connection.scalar(fit) or 0) >= SOON


def asked(connection: Connection, leads: Sequence[Lead], query: Select[Any]) -> Sequence[Row[Any]]:
    """Return what `chosen` selects, led by the same."""
    if not (leads and isinstance(leads[0], Worded) and leads[0].few):
        return connection.execute(query).all()
    # The few would be joined with all messages by going through these.
    connection.exec_driver_sql("SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off")
    rows = connection.execute(query).all()
    connection.exec_driver_sql("SET LOCAL enable_mergejoin TO DEFAULT; SET LOCAL enable_hashjoin TO DEFAULT")
    return rows


def between(connection: Connection, since: datetime | None, until: datetime | None) -> Span | None:
    """Return where the events of a span of time are, and few others; None for any time, an empty span for nowhere."""
    if since is None and until is None:
        return None
    query = select(func.min(hours.c.first), func.max(hours.c.last))
    if since is not None:
        query = query.where(hours.c.hour >= hour(since))
    if until is not None:
        query = query.where(hours.c.hour <= hour(until))
    first, last = connection.execute(query).one()
    return Span(1, 0) if first is None else Span(first, last)


def chosen(
    wanted: Filter,
    leads: Sequence[Lead],
    bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    *,
    newest_first: bool = True,
) -> Select[Any]:
    """Select the messages that fit, newest first or oldest first; the first of `leads` leads."""
    place = leads[0].place if leads else messages.c.position
    if leads and isinstance(leads[0], Worded) and leads[0].few:
        # OFFSET is what Postgres plans for by itself: by the index of words, without a view to the page.
        apart = select(place).where(leads[0].served(), *bounds.on(place)).offset(0).subquery()
        place, first = apart.c.rowid, []
    else:
        first = [*bounds.on(place), *(lead.served() for lead in leads[:1])]
    query = select(messages).where(*first, *(lead.checked(bounds) for lead in leads[1:]))
    if place is not messages.c.position:
        query = query.join(place.table, place == messages.c.position).where(*bounds.on(messages.c.position))
    return query.where(*_unserved(wanted, bounds)).order_by(place.desc() if newest_first else place)


def leads_of(wanted: Filter) -> Iterator[Lead]:
    """Yield what an index can lead."""
    if wanted.recipient is not None and "*" not in wanted.recipient:
        yield Addressed(_bare(wanted.recipient))
    if wanted.sender is not None and "*" not in wanted.sender:
        yield Indexed(messages.c.reverse_path_key, (_bare(wanted.sender),))
    if wanted.message_id is not None:
        bare = wanted.message_id.strip("<>")
        yield Indexed(messages.c.message_id, (indexed(bare), indexed(f"<{bare}>")))
    if wanted.event is not None and wanted.event not in TOLD_BY_ROW:
        yield Indexed(happenings.c.name, (wanted.event,), happenings.c.message)
    if wanted.event == Downloaded.NAME:
        yield Indexed(messages.c.direction, ("inbound",))
    if wanted.replay is not None:
        yield Indexed(happenings.c.name, (part_of(wanted.replay),), happenings.c.message)
    if wanted.kept:
        yield Exempt()
    if wanted.next_hop is not None:
        yield Indexed(hops.c.name, (wanted.next_hop,), hops.c.message)
    for column, value in (
        (messages.c.mailbox, wanted.mailbox),
        (messages.c.state, wanted.state),
        (messages.c.direction, wanted.direction),
    ):
        if value is not None:
            yield Indexed(column, (value,))
    if looked_for := tuple(dict.fromkeys(_words(wanted))):
        yield Worded(looked_for)
    if wanted.subject is not None:
        yield Fragment(folded(wanted.subject))


def fewest_first(connection: Connection, leads: list[Lead], span: Span | None) -> list[Lead]:
    """Put first what fewest messages fit. Counting is bounded."""
    uncounted = [lead for lead in leads if not lead.countable]
    leads = [lead for lead in leads if lead.countable]
    if len(leads) < 2:
        return leads + uncounted
    found = _counts(connection, leads, span, COUNTED)
    return [leads[n] for n in sorted(range(len(leads)), key=found.__getitem__)] + uncounted


def _counts(connection: Connection, leads: Sequence[Lead], span: Span | None, most: int) -> Sequence[int]:
    """Count how many messages fit each, up to so many."""
    counts = [
        select(func.count())
        .select_from(
            select(literal(1))
            .select_from(lead.place.table)
            .where(lead.served(), *Bounds(span).on(lead.place))
            .limit(most)
            .subquery()
        )
        .scalar_subquery()
        for lead in leads
    ]
    return connection.execute(select(*counts)).one()


def _unserved(wanted: Filter, bounds: Bounds) -> Iterator[ColumnElement[bool]]:
    """Yield what is looked for row by row, along an index or along all messages."""
    if wanted.sender is not None and "*" in wanted.sender:
        yield _like(messages.c.reverse_path_key, wanted.sender)
    if wanted.recipient is not None and "*" in wanted.recipient:
        its, like = recipients.c.message, _like(recipients.c.address_key, wanted.recipient)
        yield exists().where(its == messages.c.position, like, *bounds.beside(its))
    if wanted.since is not None:
        yield messages.c.opened_at >= wanted.since
    if wanted.until is not None:
        yield messages.c.opened_at < wanted.until
    if wanted.event == Attempted.NAME:
        yield messages.c.attempts > 0
    if wanted.event == Downloaded.NAME:  # not what was submitted, nor what was too large
        yield and_(messages.c.mailbox.is_not(None), messages.c.content.is_not(None))
    if wanted.reply is not None:
        yield replied(wanted.reply, bounds)
    yield from took(wanted)


def took(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions on how long a message took until it was closed; of one that is open none holds."""
    if wanted.slower is not None and wanted.slower >= SLOW:
        yield slow  # said apart, for its index
    if wanted.slower is not None:
        yield time_taken >= wanted.slower // MICROSECOND
    if wanted.faster is not None:
        yield time_taken < wanted.faster // MICROSECOND


def replied(pattern: str, bounds: Bounds = Bounds()) -> ColumnElement[bool]:  # noqa: B008 - immutable
    """Return the condition on a message in hand that the last reply to one of its recipients fits this pattern."""
    answered = recipients.alias()  # they may lead, too
    like = func.coalesce(answered.c.reply, "").ilike(_pattern(pattern), escape="\\")
    its = answered.c.message
    return exists().where(its == messages.c.position, like, *bounds.beside(its))


def _words(wanted: Filter) -> Iterator[str]:
    """Yield the words that a message must have: what fits a pattern has some for certain."""
    yield from asked_words(wanted.text or "")
    for pattern in (wanted.sender, wanted.recipient):
        if pattern is not None and "*" in pattern:
            yield from certain_words(_bare(pattern))


def _bare(address: str) -> str:
    return key(address.strip("<>"))


def _like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    return column.like(_pattern(_bare(pattern)), escape="\\")


def _pattern(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
