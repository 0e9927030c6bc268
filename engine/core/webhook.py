"""What a webhook is sent: an event as JSON, under headers that say which it is and that prove who sent it.

The signature is HMAC-SHA256 (RFC 2104) over the time and the body, so that neither can be changed and an old request can't
be passed off as a new one.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final

import orjson

PING: Final = "ping"
TAKEN: Final = range(200, 300)
MOVED: Final = range(300, 400)
FIRST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(minutes=5)
LONGEST_WISH: Final = timedelta(hours=1)  # of a receiver that says when to come again

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver said: `text` is the beginning of it, `retry_after` when to come again (RFC 9110 section 10.2.3)."""

    status: int
    text: str = ""
    retry_after: timedelta | None = None

    @property
    def taken(self) -> bool:
        """Whether the event is the receiver's now."""
        return self.status in TAKEN

    @property
    def said(self) -> str:
        """The status in words; never what a stranger wrote."""
        try:
            words = f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            words = str(self.status)
        return f"{words}, and redirections are not followed" if self.status in MOVED else words


def body(told: Mapping[str, Any]) -> bytes:
    """Return an event as it is sent: one JSON object, times in RFC 3339."""
    return orjson.dumps(told, option=orjson.OPT_UTC_Z)


def headers(event: str, event_id: str, webhook: str, secret: str, at: datetime, octets: bytes) -> Headers:
    """Return what goes in front of a body that is sent now."""
    seconds = str(int(at.timestamp()))
    return (
        ("Content-Type", "application/json"),
        ("X-Mailgate-Webhook", webhook),
        ("X-Mailgate-Event", event),
        ("X-Mailgate-Id", event_id),
        ("X-Mailgate-Timestamp", seconds),
        ("X-Mailgate-Signature", f"sha256={signature(secret, seconds, octets)}"),
    )


def signature(secret: str, timestamp: str, octets: bytes) -> str:
    """Return the hex digits that only who has the secret can make."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + octets, sha256).hexdigest()


def wait(failures: int, wished: timedelta | None) -> timedelta:
    """Return how long to wait after so many failures in a row: twice as long each time, or as long as the receiver wishes."""
    own = min(FIRST_WAIT * (1 << min(failures - 1, 16)), LONGEST_WAIT)
    return own if wished is None else max(own, min(wished, LONGEST_WISH))
