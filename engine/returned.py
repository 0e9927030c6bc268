"""Reports that come back: read one that came in, and record what it proves on the message it is about.

Done before the report is first handed on, so that it is sure to happen: once it was tried, it was read. Read again after a
crash it changes nothing, for only what was relayed changes. Whatever goes wrong with it, the report is still delivered.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from engine.core import bounce
from engine.core.bounce import StatusReport
from engine.lives import Life
from engine.means import Means
from engine.settler import Settler
from store import contents, log, queries
from store.errors import Conflict, StoreError, StoreUnreachable
from store.life import Message
from store.log import Append, Unit

logger = logging.getLogger("mailgate.worker")


class Returned:
    """Reads reports."""

    def __init__(self, means: Means, *, settler: Settler) -> None:
        self._means = means
        self._settler = settler

    @staticmethod
    def unread(message: Message) -> bool:
        """Whether this is a report that may not have been read. One that goes out is not for us."""
        return message.status_report and message.direction == "inbound" and not message.attempts

    async def take(self, life: Life) -> None:
        """Read a report and record what it proves. Never raises: the report goes on its way in any case."""
        try:
            await self._settler.surely(life.message.id, lambda: self._read(life))
        except Exception:
            logger.exception("%s: reading the report broke", life.message.id)

    async def _read(self, life: Life) -> None:
        try:
            await self._taken(life)
        except StoreUnreachable:
            raise
        except StoreError as error:  # the message it is about can't be read, or not be added to, now or ever
            logger.error("%s: what this report says is not on record: %s", life.message.id, error)

    async def _taken(self, life: Life) -> None:
        octets = life.octets
        start = None if octets is None else bytes(octets[: bounce.READ_LIMIT_OCTETS])
        if start is None:
            message = life.message
            start = await self._means.read(lambda c: contents.beginning(c, message, bounce.READ_LIMIT_OCTETS))
        report = bounce.read(start or b"", self._means.policy.hostname)
        if report is not None and report.recipients:
            while not await self._recorded(report, life.message.id):
                pass  # the message moved on meanwhile: look again

    async def _recorded(self, report: StatusReport, stream: str) -> bool:
        """Append what the report proves; False where that must be decided anew."""
        about: Message | None = await self._means.read(lambda c: _about(c, report))
        events = () if about is None else bounce.verdicts(about, report, stream, self._means.policy)
        if about is None or not events:
            logger.info("%s: a report that changes nothing", stream)
            return True
        try:
            await self._means.journal.append(Unit((Append(about.id, about, events, self._means.now()),)))
        except Conflict:
            return False
        for event in events:
            logger.info("%s: %s as report %s says", about.id, event.NAME, stream)
        return True


def _about(connection: Connection, report: StatusReport) -> Message | None:
    """Return the one message that a report can only be about; None where there is none, or more than one."""
    named = report.ids
    if not named and report.message_id:
        named = tuple(queries.outbound_ids(connection, report.message_id))
    if len(named) != 1:
        return None
    return log.message(connection, named[0])
