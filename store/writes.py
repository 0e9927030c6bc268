"""The statements that write the read tables, ready for either driver. `projections` says when."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    text,
    true,
    update,
)

from store.read_tables import exempt, messages, recipients, subjects, texts, uidls
from store.schema import Utc
from store.statement import Statement


def _assigned(*names: str, table: Table) -> dict[str, BindParameter[Any]]:
    """Return parameters for these columns, named apart from those of the WHERE; times as they are stored."""
    types = {name: table.c[name].type for name in names}
    plain = {name: BigInteger() if isinstance(kind, Utc) else kind for name, kind in types.items()}
    return {name: bindparam(f"new_{name}", type_=kind) for name, kind in plain.items()}


_its_id = bindparam("the_id", type_=Text)
_its_position = select(messages.c.position).where(messages.c.id == _its_id).scalar_subquery()
_JOINED = {
    column.name: BigInteger() if isinstance(column.type, Utc) else column.type
    for column in recipients.c
    if column.name != "message"
}
OPEN = Statement(insert(messages))
ARRIVE = Statement(insert(recipients))
# One that a message gets later on: its position is looked up.
JOIN = Statement(
    insert(recipients).from_select(
        ["message", *_JOINED],
        select(messages.c.position, *(bindparam(name, type_=kind) for name, kind in _JOINED.items())).where(
            messages.c.id == _its_id
        ),
    )
)
WORD = Statement(insert(texts))
HEAD = Statement(insert(subjects))
FIND_ANEW = Statement(
    update(texts)
    .where(texts.c.rowid == _its_position)
    .values(words=bindparam("new_words", type_=texts.c.words.type))
)
TAKE = Statement(insert(uidls))
CHANGE = Statement(
    update(messages)
    .where(messages.c.id == _its_id)
    .values(
        _assigned(
            *("state", "changed_at", "closed_at", "attempts", "next_hop", "due_at"),
            *("quarantined_why", "quarantined_by"),
            table=messages,
        )
    )
)
MOVE = Statement(
    update(recipients)
    .where(
        recipients.c.message == _its_position, recipients.c.number == bindparam("the_number", type_=Integer)
    )
    .values(
        _assigned("state", "next_hop", "reply", "attempts", "unknown_attempts", "retry_at", table=recipients)
    )
)
# Both databases read these three as they stand; SQLAlchemy has the conflict clause for each apart.
HAPPEN = Statement(
    text(
        "INSERT INTO happenings (name, message) SELECT CAST(:name AS TEXT), position FROM messages WHERE id = :stream"
        " ON CONFLICT DO NOTHING"
    )
)
HOPS = Statement(
    text(
        "INSERT INTO hops (name, message) SELECT CAST(:name AS TEXT), position FROM messages WHERE id = :stream"
        " ON CONFLICT DO NOTHING"
    )
)
EXEMPT = Statement(
    text(
        "INSERT INTO exempt (message) SELECT position FROM messages WHERE id = :stream ON CONFLICT DO NOTHING"
    )
)
EXEMPT_NO_LONGER = Statement(
    # IN, for of several messages an equation would mean the first alone.
    delete(exempt).where(exempt.c.message.in_(select(messages.c.position).where(messages.c.id == _its_id)))
)
STRETCH = Statement(
    text(
        "INSERT INTO hours (hour, first, last) VALUES (:hour, :first, :last) ON CONFLICT (hour) DO UPDATE SET"
        " first = CASE WHEN excluded.first < hours.first THEN excluded.first ELSE hours.first END,"
        " last = CASE WHEN excluded.last > hours.last THEN excluded.last ELSE hours.last END"
    )
)
_earlier = uidls.c.position < bindparam("before", type_=BigInteger)
REMOVE = Statement(
    update(uidls)
    .where(
        uidls.c.stream == bindparam("the_stream", type_=Text),
        # A copy under another UIDL may still be there.
        uidls.c.digest == bindparam("the_digest", type_=LargeBinary),
        _earlier,
    )
    .values(gone=true())
)
FORGET = Statement(
    update(uidls)
    .where(
        uidls.c.mailbox == bindparam("the_mailbox", type_=Text),
        uidls.c.digest == bindparam("the_digest", type_=LargeBinary),
        uidls.c.stream.is_(None),
        _earlier,
    )
    .values(gone=true())
)

# What was never fetched and is to be: the next listing that shows it shows something new.
FETCH_AGAIN = Statement(
    update(uidls).where(uidls.c.stream == bindparam("the_stream", type_=Text), _earlier).values(gone=true())
)
