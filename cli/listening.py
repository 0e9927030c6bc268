"""Whether listening can work: the certificate as it is now, and the room for new mail. For `mailgate check` and `run`.

Asks the file system only; opens no socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cli import context, times

if TYPE_CHECKING:
    from engine.settings import Settings

SOON = timedelta(days=14)  # renewing takes a person who has to be found


def refusals(settings: Settings) -> Iterator[str]:
    """Yield what keeps the listener from starting, one line each."""
    listen = settings.listen
    if listen is None or listen.tls_cert is None or listen.tls_key is None:
        return
    from engine.adapters.tls import ServerTrouble, server_context

    try:
        server_context(str(listen.tls_cert), str(listen.tls_key))
    except ServerTrouble as trouble:
        yield f"listen.{trouble.key}: {trouble}"


def expiry(settings: Settings, current: datetime) -> str | None:
    """Say that our certificate has expired, or does so soon; None where it doesn't."""
    listen = settings.listen
    if listen is None or listen.tls_cert is None:
        return None
    from engine.adapters.certificate import valid_until

    end = valid_until(str(listen.tls_cert))
    if end is None or end > current + SOON:
        return None
    expired = f"{'expired' if end <= current else 'expires'} {times.away(end, current)}, on {times.day(end)}"
    refused = "clients that check it can't submit" + ("" if end <= current else " then")
    return f"listen.tls_cert: {listen.tls_cert} {expired}: {refused}. Renew it; that needs no restart"


def shortage(settings: Settings) -> str | None:
    """Say that new mail is refused now for want of room; None where it isn't."""
    if settings.listen is None:
        return None
    from engine.free_space import shortage_of

    file = context.sqlite_file(settings)
    found = shortage_of(file.parent if file else None, settings.listen.free_space.octets_of)
    return None if found is None else f"new mail is refused: {found}"
