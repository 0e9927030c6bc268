"""The read tables: what the log adds up to, one table a question.

Derived from the log alone, written in the same transaction (`projections`), and made anew by `mailgate db rebuild`.
"""

from __future__ import annotations

from datetime import timedelta
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
    literal_column,
    text,
)
from sqlalchemy.types import UserDefinedType

from store.schema import MICROSECOND, Position, Utc
from store.schema import metadata as metadata

SLOW = timedelta(minutes=1)  # what takes longer is so rare that an index of it costs nothing

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
    Column("more_withheld", Integer, nullable=False),
    Column("marked", Text, nullable=False),  # JSON
    Column("undeleted", Text, nullable=False),  # JSON
    Column("more_undeleted", Integer, nullable=False),
)

# Which events happened to which message, and which replays it was part of (`rows.part_of`); not of those events that the
# message's own row tells.
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
