"""Which messages are looked for from the full screen of `mailgate top`: questions to the store, each of bounded work."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, cast

from sqlalchemy import Connection

from cli.panels import STATE_KEY
from store import glance, queries
from store.folding import asked_words
from store.queries import Filter
from store.recipient import State

SHOWN = 200  # messages in a list

Json = dict[str, Any]
Question = Callable[[Connection], list[Json]]


def of_mailbox(name: str) -> Question:
    """Ask for what was fetched from a mailbox, the newest first."""
    return lambda connection: queries.page(connection, Filter(mailbox=name), limit=SHOWN)


def waiting_at(key: str) -> Question:
    """Ask for what waits at a place, by the key of its row in the queue: what is due first, or came in first."""
    if not key.startswith(STATE_KEY):
        return lambda connection: glance.of_place(connection, key, SHOWN)
    wanted = Filter(state=cast(State, key.removeprefix(STATE_KEY)))
    return lambda connection: list(islice(queries.queue(connection, wanted, SHOWN), SHOWN))


def by_words(asked: str) -> Question:
    """Ask for what has these words in its subject or addresses, or an id that begins so."""

    def found(connection: Connection) -> list[Json]:
        begun = asked.lower()
        ids = queries.ids(connection, begun, SHOWN) if begun.isascii() and begun.isalnum() else []
        by_id = [row for one in ids[:SHOWN] if (row := queries.one(connection, one)) is not None]
        worded = asked_words(asked)
        rows = queries.page(connection, Filter(text=asked), limit=SHOWN) if worded else []
        return by_id + [row for row in rows if row["id"] not in ids]

    return found
