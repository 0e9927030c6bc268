"""The tables.

`events` is the log and the only truth. `contents` holds octets, `seals` what stood for the whole log at some times,
`followers` how far other programs have been told of it. The read tables (`messages`, `recipients`, `texts`, `subjects`,
`happenings`, `hops`, `hours`, `tallies`, `uidls`, `next_hops`, `mailboxes`, `exempt`, `told`) and the due times in `agenda` are
derived from the log alone, written in the same transaction, and can be made anew by `mailgate db rebuild`.

Times are microseconds since 1970 UTC in a BIGINT on both databases: SQLite forgets zones. Positions are given out
by the appender under the append lock, without gaps; so a reader that follows `position > checkpoint` misses nothing,
and a hole in the log shows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.types import TypeDecorator, UserDefinedType

# Partial indexes are named here for SQLite only: SQLAlchemy would import its whole Postgres dialect (55 ms at each start) to
# check the other keyword. The migrations make them on both.

# Events that nearly every message has: finding them by name needs no index, and an index would double the cost of appending.
COMMON_EVENTS = ("attempted", "delivered", "downloaded", "relayed", "removed-from-source", "scanned")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
SLOW = timedelta(minutes=1)  # what takes longer is so rare that an index of it costs nothing

# A plain BIGINT would not be SQLite's rowid.
Position = BigInteger().with_variant(Integer, "sqlite")


def microseconds(at: datetime) -> int:
    """Return a time as it is stored; it must be aware."""
    return (at - EPOCH) // MICROSECOND


def hour(at: datetime) -> int:
    """Return the hour a time is in, counted from 1970 UTC."""
    return (at - EPOCH) // HOUR


def from_microseconds(value: int) -> datetime:
    """Return a stored time, in UTC."""
    return EPOCH + timedelta(0, 0, value)  # by name it takes half as long again


class Utc(TypeDecorator[datetime]):
    """An aware time, stored as microseconds since 1970 UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("stream", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("personal", LargeBinary),
    Column("salt", LargeBinary),
    Column("digest", LargeBinary),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("stream", "revision", name="events_stream"),
)
_rare = events.c.name.not_in(COMMON_EVENTS)
Index("events_rare_name", events.c.name, events.c.position, sqlite_where=_rare)

contents = Table(
    "contents",
    metadata,
    Column(
        "position", Position, primary_key=True, autoincrement=False
    ),  # of the event that opened the message
    Column("octets", LargeBinary, nullable=False),
)

# Not derived: a seal that was made anew from a log that was rewritten would hide just that.
seals = Table(
    "seals",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1, without gaps
    Column("position", Position, nullable=False),  # it covers the events up to this one
    Column("root", LargeBinary, nullable=False),
    Column(
        "blocks", LargeBinary, nullable=False
    ),  # roots of the blocks that became whole since the seal before
    Column("at", Utc, nullable=False),
    Column("public_key", LargeBinary),
    Column("signature", LargeBinary),
)

# Not derived either: how far each program that is told of events has been told (`followers`).
followers = Table(
    "followers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Position, nullable=False),  # of the last event it has taken
    Column("failures", Integer, nullable=False),  # in a row; 0 is well
    Column("since", Utc),  # of the first of them
    Column("said", Text),  # the last of them
    Column("retry_at", Utc),
    Column("holder", Text),
    Column("lease_until", Utc),
)

agenda = Table(
    "agenda",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("lane", Text, nullable=False),
    Column("wake_at", Utc, nullable=False),
    Column("holder", Text),
    Column("lease_until", Utc),
    Column("fence", BigInteger, nullable=False, default=0),
)
Index("agenda_due", agenda.c.lane, agenda.c.wake_at)
_held = agenda.c.holder.is_not(None)
Index("agenda_holder", agenda.c.holder, sqlite_where=_held)

messages = Table(
    "messages",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),  # of the event that opened it
    Column("id", Text, nullable=False, unique=True),
    Column("direction", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_at", Utc, nullable=False),
    Column("changed_at", Utc, nullable=False),
    Column("closed_at", Utc),
    Column("mailbox", Text),
    Column("uidl", Text),
    Column("reverse_path", Text),  # "" is the null one; None: it was erased
    Column("reverse_path_key", Text),  # lower case: how it is looked up
    Column("message_id", Text),
    Column("subject", Text),
    Column("sender", Text),
    Column("size_octets", BigInteger, nullable=False),
    Column("content", Text),
    Column("attempts", Integer, nullable=False),
    Column("next_hop", Text),
    Column("due_at", Utc),
    Column("quarantined_why", Text),
    Column("quarantined_by", Text),  # the rule
)
Index("messages_reverse_path", messages.c.reverse_path_key, messages.c.position)
Index("messages_message_id", messages.c.message_id, messages.c.position)
Index("messages_mailbox", messages.c.mailbox, messages.c.position)
Index("messages_state", messages.c.state, messages.c.position)
Index("messages_direction", messages.c.direction, messages.c.position)
# In letters: an index that holds only some rows is used where the query says the same.
slow: ColumnElement[bool] = literal_column(
    "messages.closed_at - messages.opened_at", BigInteger
) >= literal_column(str(SLOW // MICROSECOND))
Index(
    "messages_slow",
    *(messages.c.position, messages.c.closed_at, messages.c.opened_at),
    sqlite_where=text(f"closed_at - opened_at >= {SLOW // MICROSECOND}"),
)

recipients = Table(
    "recipients",
    metadata,
    Column("message", Position, primary_key=True, autoincrement=False),  # position of the message
    Column("number", Integer, primary_key=True),
    Column("address", Text, nullable=False),
    Column("address_key", Text, nullable=False),
    Column("routed_by", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("next_hop", Text),
    Column("reply", Text),
    Column("attempts", Integer, nullable=False),
    Column("unknown_attempts", Integer, nullable=False),
    Column("retry_at", Utc),
)
Index("recipients_address", recipients.c.address_key, recipients.c.message)

uidls = Table(
    "uidls",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),  # of the event that took it
    Column("number", Integer, primary_key=True),  # within that event
    Column("mailbox", Text, nullable=False),
    Column("uidl", LargeBinary, nullable=False),  # verbatim
    Column("digest", LargeBinary, nullable=False),  # of the UIDL: it may be longer than an index entry can be
    Column("size_octets", BigInteger, nullable=False),  # as listed
    Column("stream", Text),  # None: adopted without a download
    Column("gone", Boolean, nullable=False),
)
_present = uidls.c.gone.is_(False)
Index("uidls_present", uidls.c.mailbox, uidls.c.position, sqlite_where=_present)
Index("uidls_digest", uidls.c.mailbox, uidls.c.digest)
Index("uidls_stream", uidls.c.stream)

next_hops = Table(
    "next_hops",
    metadata,
    Column("name", Text, primary_key=True),
    Column("failures", Integer, nullable=False),  # in a row; 0 is up
    Column("since", Utc),  # of being up or down; None: never was down
    Column("probe_at", Utc),  # when a message may try again
    Column("reply", Text),
    Column("reply_position", BigInteger),  # of the event that tells it
    Column("size_limit_octets", BigInteger),  # learnt from a refusal
)

mailboxes = Table(
    "mailboxes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("health", Text, nullable=False),
    Column("since", Utc),
    Column("kind", Text),
    Column("permanent", Boolean, nullable=False),
    Column("text", Text),
    Column("last_new_at", Utc),
    Column("downloaded", BigInteger, nullable=False),
    Column("withheld", Text, nullable=False),  # JSON
    Column("marked", Text, nullable=False),  # JSON
)

# Which events happened to which message; not of those that the message's own row tells.
happenings = Table(
    "happenings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("message", Position, primary_key=True, autoincrement=False),  # position of the message
    sqlite_with_rowid=False,
)

# At which next hops a message was tried or was to be; all of direct delivery also goes by one name (`rows.DIRECTLY`).
hops = Table(
    "hops",
    metadata,
    Column("name", Text, primary_key=True),
    Column("message", Position, primary_key=True, autoincrement=False),  # position of the message
    sqlite_with_rowid=False,
)


class Words(UserDefinedType[str]):
    """Sorted words with a space between, as Postgres indexes them; it gives them back in quotes."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TSVECTOR"

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return lambda value: None if value is None else value.replace("'", "")


# The words of subject and addresses (`folding.words`). On SQLite it is a table of FTS5, which is its own index and never
# looks at what is beside it; how it is made stands here too, for FTS5 is emptied by being made anew. Apart from the other
# tables: it is none that SQLAlchemy can make or compare.
texts = Table(
    "texts",
    MetaData(),
    Column("rowid", Position, primary_key=True, autoincrement=False),  # position of the message
    Column("words", Text().with_variant(Words(), "postgresql"), nullable=False),
)
TEXTS_ON_SQLITE = (
    "CREATE VIRTUAL TABLE texts USING fts5(words, tokenize='ascii', detail='none', columnsize=0)"
)

# A narrow row for each message that has a subject: what is inside a word is found by going through them.
subjects = Table(
    "subjects",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),  # of the message
    Column("folded", Text, nullable=False),
)

# Between which positions the events of an hour are. Clocks may disagree and go back, so that times are not in the
# order of positions; what happened in a span of time is all between two positions nevertheless, and few others with it.
# It does what indexes on times would do, for a row in an hour.
hours = Table(
    "hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # since 1970
    Column("first", Position, nullable=False),
    Column("last", Position, nullable=False),
)

# What is exempt from retention now, by a person's word: few of all there is.
exempt = Table(
    "exempt",
    metadata,
    Column("message", Position, primary_key=True, autoincrement=False),  # position of the message
)

# What the postmaster was told last of each scanner, mailbox, next hop (`told`), and when the last daily report was written.
told = Table(
    "told",
    metadata,
    Column("what", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("at", Utc, nullable=False),
)

# How much of what happened in an hour (`tallies`): what took how long is in the bucket.
tallies = Table(
    "tallies",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

READ_TABLES = (
    *(recipients, messages, texts, subjects, happenings, hops, hours),
    *(tallies, uidls, next_hops, mailboxes, exempt, told),
)
