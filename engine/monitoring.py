"""What monitoring asks, where it is configured: the figures, kept up to date, and the server that tells them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from engine import clock
from engine.budget import OctetBudget
from engine.settings import MetricsSettings
from engine.watched import Configured, Outlook

if TYPE_CHECKING:
    from engine.adapters.metrics_server import MetricsServer

BEAT_SECONDS: Final = 5.0

logger = logging.getLogger("mailgate.metrics")


class Monitoring:
    """The figures of one gateway and who tells them. `read` asks the store from any thread."""

    def __init__(
        self,
        settings: MetricsSettings,
        *,
        read: Callable[[Callable[[Connection], Any]], Any],
        budget: OctetBudget,
        configured: Configured,
        outlook: Outlook,
    ) -> None:
        from engine.metrics import Metrics  # and with it a library that most gateways don't need

        self._address = settings.address
        self._metrics = Metrics(
            read=read, budget=budget, now=clock.now, configured=configured, outlook=outlook
        )
        self._server: MetricsServer | None = None
        self.watch = self._metrics.watch

    def start(self) -> None:
        """Answer from now on. Raises MetricsTrouble."""
        from engine.adapters.metrics_server import MetricsServer

        self._server = MetricsServer(self._address.host, self._address.port, self._metrics)
        logger.info("metrics are told at %s", self._address.text)

    async def beat(self) -> None:
        """Show that the event loop moves, until cancelled."""
        while True:
            self._metrics.beat()
            await asyncio.sleep(BEAT_SECONDS)

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            await asyncio.to_thread(self._server.close)


def monitoring(
    settings: MetricsSettings | None,
    *,
    read: Callable[[Callable[[Connection], Any]], Any],
    budget: OctetBudget,
    configured: Configured,
    outlook: Outlook,
) -> Monitoring | None:
    """Return what monitoring asks; None where nobody is to ask."""
    if settings is None:
        return None
    return Monitoring(settings, read=read, budget=budget, configured=configured, outlook=outlook)
