"""What a scanner calls itself, asked again now and then: signatures change by the day, and every verdict names them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

ANEW_SECONDS: Final = 60.0


class KnownVersion:
    """The version, and when it was asked. For one event loop."""

    def __init__(self, ask: Callable[[], Awaitable[str]], anew_seconds: float = ANEW_SECONDS) -> None:
        self._ask = ask
        self._anew_seconds = anew_seconds
        self._text: str | None = None
        self._asked_at_seconds = 0.0

    async def text(self) -> str:
        """Return it, asking if it is old. Raises ScannerTrouble."""
        now = asyncio.get_running_loop().time()
        if self._text is None or now - self._asked_at_seconds >= self._anew_seconds:
            self._text = await self._ask()
            self._asked_at_seconds = now
        return self._text
