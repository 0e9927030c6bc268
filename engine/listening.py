"""Listening for what clients submit, by a process of its own: started, watched, started again, stopped.

Owns the addresses, so that clients find them while the process is started again, and the budget, so that memory is counted
once. What that process hands over is kept here; it has the answer as soon as the message is durable, and a message that it handed
over whole is kept even if it is gone by then.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from typing import Final

from engine.acceptance import Acceptance
from engine.adapters.listener_brief import Brief
from engine.adapters.listener_process import ListenerProcess
from engine.adapters.listener_words import Finish, Unable
from engine.adapters.smtp_listener_access import ListenTrouble, bound
from engine.budget import OctetBudget
from engine.desk import Desk

START_SECONDS: Final = 60.0  # only a machine out of its breath takes so long
LEAVE_SECONDS: Final = 5.0  # to end, once all clients are gone
AGAIN_SECONDS: Final = 1.0  # before it is started again; doubled each time
AGAIN_SECONDS_LIMIT: Final = 30.0
STEADY_SECONDS: Final = 60.0  # who lived for so long is started again at once

logger = logging.getLogger("mailgate.listen")


class NotStarted(Exception):
    """The process that listens didn't come up, whatever is configured. One line for a person."""


class Listening:
    """The process that listens, or the one after it. For one event loop."""

    def __init__(self, brief: Brief, acceptance: Acceptance, budget: OctetBudget) -> None:
        self._brief = brief  # without its sockets, which come with the start
        self._acceptance = acceptance
        self._budget = budget
        self._sockets: list[socket.socket] = []
        self._process: ListenerProcess | None = None
        self._desk: Desk | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Listen. Raises ListenTrouble, and NotStarted, which a later start may be spared."""
        self._sockets = await bound(self._brief.access.addresses)
        await self._begin()

    async def run(self) -> None:
        """Start it again whenever it ends, until stopped."""
        loop, pause_seconds = asyncio.get_running_loop(), AGAIN_SECONDS
        begun_at = loop.time()
        while True:
            how = await self._gone()
            if self._stopping.is_set():
                return
            logger.error("the process that listens is gone (%s): it is started again", how)
            if loop.time() - begun_at >= STEADY_SECONDS:
                pause_seconds = AGAIN_SECONDS
            await asyncio.sleep(pause_seconds)
            if self._stopping.is_set():
                return
            pause_seconds = min(2 * pause_seconds, AGAIN_SECONDS_LIMIT)
            begun_at = loop.time()
            try:
                await self._begin()
            except (ListenTrouble, NotStarted) as trouble:
                logger.error("%s", trouble)

    async def stop(self, seconds: float) -> None:
        """Listen no more; let transactions under way finish, for so long."""
        self._stopping.set()
        for one in self._sockets:
            one.close()
        if self._process is None:
            return
        self._process.say(Finish(seconds))
        try:
            async with asyncio.timeout(seconds + LEAVE_SECONDS):
                await self._gone()
        except TimeoutError:
            self._process.kill()
            await self._gone()

    async def _begin(self) -> None:
        self._process = process = ListenerProcess(self._brief.access.variables)
        self._desk = desk = Desk(self._acceptance, self._budget, process.say)
        sockets = tuple(one.fileno() for one in self._sockets)
        try:
            await process.start(replace(self._brief, sockets=sockets), desk.hear, desk.lost)
            async with asyncio.timeout(START_SECONDS):
                said = await desk.ready
        except ConnectionError:  # it was killed before it could be told what to do
            said = None
        except (OSError, TimeoutError) as error:
            process.kill()
            reason = str(error) or f"it said nothing for {START_SECONDS:.0f} s"
            raise NotStarted(f"the process that listens can't be started: {reason}") from None
        if isinstance(said, Unable):
            process.kill()
            raise ListenTrouble(said.text)
        if said is None:
            process.kill()
            raise NotStarted("the process that listens ended at its start")
        if self._stopping.is_set():
            process.say(Finish(0))  # nobody could say so before

    async def _gone(self) -> str:
        """Wait for the end of the process, and of what it left to be kept."""
        assert self._process is not None
        assert self._desk is not None
        how = await self._process.ended()
        await self._desk.cleared()
        return how
