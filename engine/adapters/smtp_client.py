"""aiosmtplib's client, closing at once.

To part from TLS in good order takes a while. Whoever closes the socket meanwhile leaves the loop a transport without one; the
next connection gets its number, whoever's it is, and is refused by the loop, or no longer heard when that transport ends.
"""

from __future__ import annotations

import asyncio
from typing import cast

import aiosmtplib


class Client(aiosmtplib.SMTP):
    """Sets up a session."""

    def close(self) -> None:
        """Close without a word; also called by aiosmtplib itself, where a greeting is no welcome."""
        transport = self.transport
        super().close()
        if transport is not None:
            cast(asyncio.Transport, transport).abort()
