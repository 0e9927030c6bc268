"""What the postmaster was told last of each thing that may be in trouble, and of each day: from the log, one row for each.

So that nobody is told twice of the same state, however often a gateway starts and however many there are: who asks in the
transaction in which they tell knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Connection, select, text

from store.events import Generated, ReportKind
from store.read_tables import told
from store.schema import microseconds
from store.statement import Statement

What = Literal["scanner", "mailbox", "next-hop", "disk", "store", "daily"]

# Of each kind of notice: what it is about, and whether trouble begins with it.
NEWS: Final[dict[ReportKind, tuple[What, bool]]] = {
    "scanner-down": ("scanner", True),
    "scanner-up": ("scanner", False),
    "mailbox-failing": ("mailbox", True),
    "mailbox-suspended": ("mailbox", True),
    "mailbox-recovered": ("mailbox", False),
    "next-hop-down": ("next-hop", True),
    "next-hop-up": ("next-hop", False),
    "disk-full": ("disk", True),
    "disk-free": ("disk", False),
    "store-back": ("store", False),
    "daily": ("daily", False),
}

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last notice about something: its kind, its stream, the message it names (or ""), when it was written."""

    kind: ReportKind
    stream: str
    about: str
    at: datetime

    @property
    def trouble(self) -> bool:
        """Whether it told of trouble, of whose end nothing was told yet."""
        return NEWS[self.kind][1]


def last(connection: Connection, what: What, name: str = "") -> Told | None:
    """Return what was told last of one thing."""
    return of(connection, what).get(name)


def of(connection: Connection, what: What) -> dict[str, Told]:
    """Return what was told last of each thing of a kind, by its name."""
    rows = connection.execute(select(told).where(told.c.what == what))
    return {row.name: Told(kind=row.kind, stream=row.stream, about=row.about, at=row.at) for row in rows}


def row_of(stream: str, event: Generated, at: datetime) -> Row | None:
    """Return the row that a notice makes; None for one that is about a message."""
    if event.kind not in NEWS:
        return None
    return {
        "what": NEWS[event.kind][0],
        "name": event.concerns or "",
        "kind": event.kind,
        "stream": stream,
        "about": event.about,
        "at": microseconds(at),
    }


TELL = Statement(
    text(
        "INSERT INTO told (what, name, kind, stream, about, at) VALUES (:what, :name, :kind, :stream, :about, :at)"
        " ON CONFLICT (what, name) DO UPDATE SET"
        " kind = excluded.kind, stream = excluded.stream, about = excluded.about, at = excluded.at"
    )
)
