"""Events with every fact filled in, and short ways to append and to look at what is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Table, select

from store import log
from store.database import reading, writing
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Downloaded,
    Event,
    Failed,
    Generated,
    Quarantined,
    RejectedOversize,
    Relayed,
    RemovedFromSource,
    Scanned,
    Submitted,
    Verdict,
)
from store.guards import GUARDS
from store.life import Message
from store.log import Append, Unit
from store.mailbox_life import Mailbox

NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)
POLICY = "5e1f00d2c0de"


def after(**span: float) -> datetime:
    """A time so long after NOW."""
    return NOW + timedelta(**span)


def downloaded(octets: bytes = b"Subject: x\r\n\r\n", **facts: Any) -> Downloaded:
    """One recipient, unless told otherwise."""
    recipients = facts.get("recipients", ("info@example.com",))
    return Downloaded(
        **{
            "mailbox": "info",
            "uidl": "u1",
            "size_octets": len(octets),
            "listed_octets": len(octets),
            "content": sha256(octets).hexdigest(),
            "bare_newlines": False,
            "recipient_count": len(recipients),
            "policy": POLICY,
            "reverse_path": "anna@customer.example",
            "recipients": recipients,
            "routed_by": ("mailbox recipients",) * len(recipients),
        }
        | facts
    )


def submitted(octets: bytes = b"Subject: x\r\n\r\n", **facts: Any) -> Submitted:
    """A client handed it in, for somebody outside."""
    return Submitted(
        **{
            "direction": "outbound",
            "protocol": "ESMTP",
            "tls": "none",
            "size_octets": len(octets),
            "content": sha256(octets).hexdigest(),
            "bare_newlines": False,
            "recipient_count": 1,
            "policy": POLICY,
            "reverse_path": "info@example.com",
            "recipients": ("bob@customer.example",),
        }
        | facts
    )


def generated(octets: bytes = b"Subject: Notice\r\n\r\n", **facts: Any) -> Generated:
    return Generated(
        **{
            "kind": "failure",
            "about": "m1",
            "size_octets": len(octets),
            "content": sha256(octets).hexdigest(),
            "recipient_count": 1,
            "recipients": ("postmaster@example.com",),
        }
        | facts
    )


def oversize(**facts: Any) -> RejectedOversize:
    """Opens a stream: never retrieved."""
    return RejectedOversize(
        **{
            "mailbox": "info",
            "uidl": "u1",
            "size_octets": 50_000_000,
            "limit_octets": 10_000_000,
            "limit_from": "config",
            "recipient_count": 1,
            "policy": POLICY,
            "recipients": ("info@example.com",),
        }
        | facts
    )


def attempted(*numbers: int, **facts: Any) -> Attempted:
    return Attempted(
        **{
            "numbers": numbers or (0,),
            "next_hop": "home",
            "attempt": 1,
            "rule": "own domain",
            "policy": POLICY,
        }
        | facts
    )


def delivered(*numbers: int, **facts: Any) -> Delivered:
    return Delivered(**_taken(numbers) | facts)


def relayed(*numbers: int, **facts: Any) -> Relayed:
    return Relayed(**_taken(numbers) | facts)


def _taken(numbers: tuple[int, ...]) -> dict[str, Any]:
    return {
        "numbers": numbers or (0,),
        "next_hop": "home",
        "attempt": 1,
        "address": "192.0.2.1:25",
        "tls": "none",
        "code": 250,
        "duration_ms": 12,
        "reply": "2.0.0 Ok",
    }


def deferred(*numbers: int, **facts: Any) -> Deferred:
    return Deferred(
        **{
            "numbers": numbers or (0,),
            "next_hop": "home",
            "attempt": 1,
            "retry_at": after(minutes=5),
            "scope": "message",
            "code": 451,
            "policy": POLICY,
            "reply": "4.3.0 later",
        }
        | facts
    )


def failed(*numbers: int, **facts: Any) -> Failed:
    return Failed(
        **{
            "numbers": numbers or (0,),
            "reason": "rejected",
            "next_hop": "home",
            "attempt": 1,
            "code": 550,
            "policy": POLICY,
            "reply": "5.1.1 nobody",
        }
        | facts
    )


def scanned(verdict: Verdict, **facts: Any) -> Scanned:
    return Scanned(
        **{
            "scanner": "clamd",
            "verdict": verdict,
            "duration_ms": 7,
            "engine": "ClamAV 1.0.9",
            "policy": POLICY,
        }
        | facts
    )


def quarantined(**facts: Any) -> Quarantined:
    return Quarantined(
        **{"reason": "infected", "rule": "clamd found Eicar", "scanner": "clamd", "policy": POLICY} | facts
    )


def removed(uidl: str = "u1", **facts: Any) -> RemovedFromSource:
    return RemovedFromSource(**{"mailbox": "info", "uidl": uidl, "confirmed_by": "quit"} | facts)


def opening(stream: str = "m1", *more: Event, octets: bytes = b"Subject: x\r\n\r\n", **facts: Any) -> Append:
    """A message that is taken in with its octets, and what is recorded with it."""
    return Append(stream, None, (downloaded(octets, **facts), *more), NOW, octets)


def then(before: Append, *events: Event, at: datetime = NOW) -> Append:
    """What comes next in a stream."""
    return Append(before.stream, before.after, events, at)


def append(engine: Engine, *appends: Append) -> None:
    """Append each as a unit of its own, all in one batch; all must be taken."""
    with writing(engine) as connection:
        assert log.append(connection, [Unit((one,)) for one in appends]) == [None] * len(appends)


def message(connection: Connection, stream: str = "m1") -> Message:
    found = log.message(connection, stream)
    assert found is not None
    return found


def mailbox(engine: Engine, name: str = "info") -> Mailbox:
    with reading(engine) as connection:
        return log.mailbox(connection, name)


def rows(engine: Engine, table: Table, *columns: str) -> list[dict[str, Any]]:
    """All rows of a table in the order of its key; all columns, or these."""
    with reading(engine) as connection:
        found = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
        return [{name: row[name] for name in columns or row} for row in found]


def unguarded(engine: Engine, *statements: str) -> None:
    """Change the log in spite of its triggers, as somebody who owns the database could."""
    with writing(engine) as connection:
        if engine.dialect.name == "sqlite":
            for trigger in GUARDS["sqlite"]:
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}")
        else:
            connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER USER")
            connection.exec_driver_sql("ALTER TABLE seals DISABLE TRIGGER USER")
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount > 0
