"""The gateway at work: signs of life, signals, one round or for as long as it is let."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from engine import presence
from engine.core.report_words import messages
from engine.gateway import Gateway, Roles, Round
from engine.settings import Settings
from store import copy_mark, queries
from store.database import reading, writing

PRESENCE_SECONDS = 10.0  # well within a lease's term: whoever finds our locks gone takes our leases over

logger = logging.getLogger("mailgate")


@asynccontextmanager
async def gateway(
    settings: Settings, engine: Engine, only: frozenset[str] | None = None
) -> AsyncIterator[Gateway]:
    """Open a gateway on a store: give a sign of life, take over what the dead left."""
    present = await asyncio.to_thread(presence.arrive, engine, settings.fingerprint)
    try:
        taken = await asyncio.to_thread(present.take_over)
        if taken:
            logger.info("took over from a gateway that is gone; messages: %d", taken)
        if copied := await asyncio.to_thread(_of_a_copy, engine):
            logger.warning(copied)
        if apart := await asyncio.to_thread(presence.clocks_apart, engine):
            logger.warning(apart)
        staying = asyncio.create_task(_stay(present), name="presence")
        try:
            yield Gateway(settings, engine, present.holder, only)
        finally:
            staying.cancel()
            await asyncio.gather(staying, return_exceptions=True)
    finally:
        await asyncio.to_thread(present.leave)


def _has_terminal() -> bool:
    """Whether there is a terminal that may be closed: where there is none, somebody means by SIGHUP that we read things anew."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _say_no_reload() -> None:
    logger.warning(
        "SIGHUP changes nothing: a new configuration counts after a restart, and there are no files to reopen"
    )


def _of_a_copy(engine: Engine) -> str | None:
    """Say, once, what may be sent twice from a store that is a copy."""
    with reading(engine) as connection:
        count = queries.moving_count(connection) if copy_mark.stands(connection) else None
    if count is None:
        return None
    with writing(engine) as connection:
        copy_mark.clear(connection)
    if not count:
        return None
    return (
        f"this store is a copy made by 'mailgate db backup', open in it: {messages(count)}; what its original handed over since"
        " then is sent again"
    )


async def _stay(present: presence.Presence) -> None:
    """Keep our sign of life up, through restarts of the database."""
    while True:
        await asyncio.sleep(PRESENCE_SECONDS)
        with suppress(SQLAlchemyError):  # still down: the next time will do
            await asyncio.to_thread(present.renew)


async def serve(settings: Settings, engine: Engine, roles: Roles) -> None:
    """Run the gateway until SIGTERM or SIGINT, or until its terminal is closed. Raises ListenTrouble and NotStarted."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        loop.add_signal_handler(signal.SIGHUP, stop.set if _has_terminal() else _say_no_reload)
    async with gateway(settings, engine) as opened:
        await opened.run(roles, stop)
        logger.info("stopped")


async def once(settings: Settings, engine: Engine, roles: Roles, only: frozenset[str] | None = None) -> Round:
    """Run once; says what it came to."""
    async with gateway(settings, engine, only) as opened:
        return await opened.run_once(roles)
