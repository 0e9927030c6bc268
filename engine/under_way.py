"""Whether somebody is at work on a message: what is just being handed over can't be called back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from store import queries
from store.life import Message


def worked_on(
    connection: Connection, message: Message, now: datetime, gateway_runs: Callable[[], bool]
) -> bool:
    """Whether a gateway that lives holds it; asked only where an attempt has no answer on record."""
    if not any(r.in_flight for r in message.recipients):
        return False
    planned = queries.lease(connection, message.id)
    if planned is None or planned["lease_until"] is None or planned["lease_until"] <= now:
        return False
    return gateway_runs()
