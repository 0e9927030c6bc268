"""The URL of a store: read, and shown without the passwords in it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

LAST_PORT: Final = 65535
# Of libpq, which takes them behind the question mark as well.
SECRETS: Final = ("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")


def parsed(url: str) -> URL:
    """Read it. Raises ValueError, which never shows what may be a password: without its host, that is read as a port."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("can't be read") from None
    if found.port is not None and not 0 < found.port <= LAST_PORT:
        raise ValueError("has a port that is none")
    return found


def shown(url: str) -> str:
    """Return it without its passwords. Raises ValueError."""
    return parsed(url).set(password=None).difference_update_query(SECRETS).render_as_string()


def holds_password(url: str) -> bool:
    """Whether a password is written in it. Raises ValueError."""
    found = parsed(url)
    return found.password is not None or any(key in found.query for key in SECRETS)
