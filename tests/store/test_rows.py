"""No text is too odd or too long for the rows of the read tables."""

from __future__ import annotations

import secrets

import pytest
from sqlalchemy import Engine

from store import log, mailbox_queries, queries
from store.database import reading
from store.events import MailboxEvent, RedeliveryRequested
from store.log import Append
from store.mailbox_events import PollFailed, mailbox_stream
from store.queries import Filter
from store.read_tables import messages
from tests.store.build import (
    NOW,
    POLICY,
    append,
    attempted,
    deferred,
    mailbox,
    opening,
    rows,
    then,
)

NASTY = "nul\0 \u2028 \U0001f4e8 \x7f '\" % \\"


def on_mailbox(engine: Engine, *events: MailboxEvent) -> None:
    append(engine, Append(mailbox_stream("info"), mailbox(engine), events, NOW))


def test_no_text_breaks_the_read_tables(store: Engine) -> None:
    first = opening(
        uidl="nul\0\xff",
        reverse_path=NASTY,
        recipients=(NASTY,),
        routed_by=(NASTY,),
        subject=NASTY,
        message_id=NASTY,
        from_=NASTY,
        date=NASTY,
    )
    append(store, first, then(first, attempted(), deferred(reply=NASTY, scope="next-hop")))
    on_mailbox(store, PollFailed(mailbox="info", kind="protocol", permanent=False, text=NASTY))
    shown = NASTY.replace("\0", "\N{REPLACEMENT CHARACTER}")
    with reading(store) as connection:
        found = queries.one(connection, "m1")
        assert found is not None
        assert [found[name] for name in ("reverse_path", "subject", "message_id", "from")] == [shown] * 4
        assert [found["recipients"][0][name] for name in ("address", "reply", "routed_by")] == [shown] * 3
        assert log.read(connection, "m1")[0].event == first.events[0]
        for wanted in (Filter(sender=NASTY), Filter(recipient=NASTY), Filter(sender="nul*\\")):
            assert [one["id"] for one in queries.page(connection, wanted)] == ["m1"]
        assert mailbox_queries.mailbox_rows(connection)[0]["text"] == shown


@pytest.mark.parametrize("brackets", ["<{}>", "{}"])
def test_a_text_longer_than_an_index_entry_is_taken_in_and_found(brackets: str, store: Engine) -> None:
    """Random, so that no compression makes it fit: 998 characters of four octets."""
    long = "".join(chr(0x10000 + secrets.randbelow(0x10000)) for _ in range(998))
    first = opening(message_id=brackets.format(long), reverse_path=long, recipients=(long,), subject=long)
    asked = RedeliveryRequested(numbers=(0,), replay=long, operator="anna", policy=POLICY)
    append(store, first, then(first, asked), opening("m2", message_id=brackets.format("else")))
    with reading(store) as connection:
        for wanted in (
            Filter(message_id=long),
            Filter(message_id=f"<{long}>"),
            Filter(sender=long),
            Filter(recipient=long),
            Filter(replay=long),
        ):
            assert [one["id"] for one in queries.page(connection, wanted)] == ["m1"]
        assert log.message(connection, "m1").message_id == brackets.format(long)  # type: ignore[union-attr]
    assert next(row["reverse_path"] for row in rows(store, messages)) == long
