"""What the log knows of a scanner's outage."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine

from store import scan_outages
from store.database import reading, writing
from store.events import Event, Scanned
from store.log import Append, Unit, append, message
from tests.store.build import POLICY, after, downloaded


def put(engine: Engine, stream: str, *events: tuple[int, Event]) -> None:
    """Append events to a stream, each so many seconds after NOW."""
    for seconds, event in events:
        with writing(engine) as connection:
            before = message(connection, stream)
            octets = b"Subject: x\r\n\r\n" if before is None else None
            one = Append(stream, before, (event,), after(seconds=seconds), octets)
            assert append(connection, [Unit((one,))]) == [None]


def said(verdict: Any, scanner: str = "clamd", **facts: Any) -> Scanned:
    return Scanned(scanner=scanner, verdict=verdict, duration_ms=1, policy=POLICY, **facts)


def down(scanner: str = "clamd") -> Scanned:
    return said("error", scanner, retry_at=after(hours=1), blame="scanner")


def outage(connection: Connection, scanner: str = "clamd") -> tuple[Any, Any]:
    return scan_outages.outage(connection, "m1", scanner)


def test_an_outage_begins_with_the_first_of_the_failures_in_a_row(store: Engine) -> None:
    put(store, "m1", (0, downloaded()), (1, down()), (2, down("spamd")), (3, down()))
    with reading(store) as connection:
        assert outage(connection) == (after(seconds=1), after(seconds=1))
        assert outage(connection, "spamd") == (after(seconds=2), after(seconds=2))
        assert outage(connection, "rspamd") == (None, None)
    put(store, "m1", (4, said("clean")))
    with reading(store) as connection:
        assert outage(connection) == (after(seconds=1), None)
    put(store, "m1", (5, down()), (6, said("clean", late=True)))
    with reading(store) as connection:
        assert outage(connection) == (after(seconds=5), after(seconds=5))


def test_who_waits_and_who_longest(store: Engine) -> None:
    with reading(store) as connection:
        assert scan_outages.waiters(connection, "clamd") == scan_outages.Waiters(0, "")
    put(store, "m2", (0, downloaded(uidl="2")), (1, down()))
    put(store, "m1", (2, downloaded()), (3, down()))
    put(store, "m3", (4, downloaded(uidl="3")), (5, down("spamd")))
    with reading(store) as connection:
        assert scan_outages.waiters(connection, "clamd") == scan_outages.Waiters(2, "m1")
