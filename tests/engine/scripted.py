"""A scanner that does what a test says: what it answers, whether it is up, at which messages it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from engine.core.verdict import ScannerPolicy
from engine.ports import Answered, Mail, ScannerTrouble
from engine.scanner_post import SAMPLE, ScannerPost

CLEAN = Answered(verdict="clean")
VIRUS = b"the virus of the test"
KILLER = b"what kills a scanner"
GONE = "connection refused"


class ScriptedScanner:
    """Finds VIRUS; breaks at KILLER, and whatever else it is asked at that moment breaks with it.

    `down` is why it can't be asked at all; `hangs` lets it answer nothing until `go_on`; `rubbish` lets it break at every
    message, the sample too. `asked` are the ids in the order in which they came, checks apart, which are counted.
    """

    def __init__(self, name: str = "clamd", *, connections: int = 4, **policy: Any) -> None:
        self.name = name
        usual: dict[str, Any] = {"kind": "clamd", "on_found": "quarantine"}
        self.policy = ScannerPolicy(name=name, **usual | policy)
        self.connections = connections
        self.timeout_seconds = 30.0
        self.down: str | None = None
        self.hangs = False
        self.rubbish = False
        self.breaks_at: Callable[[Mail], bool] = lambda mail: KILLER in bytes(mail.octets)
        self.answer: Callable[[Mail], Answered] = _look
        self.asked: list[str] = []
        self.together: list[int] = []  # how many were being asked about when each came, itself with them
        self.checks = 0
        self.closed = False
        self._asking = 0
        self._crash = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()

    def post(self, now: Callable[[], datetime]) -> ScannerPost:
        return ScannerPost(
            self, self.policy, connections=self.connections, timeout_seconds=self.timeout_seconds, now=now
        )

    def hang(self) -> None:
        self.hangs = True
        self._going.clear()

    def go_on(self) -> None:
        self.hangs = False
        self._going.set()

    async def scan(self, mail: Mail) -> Answered:
        if mail is SAMPLE:
            self.checks += 1
        else:
            self.asked.append(mail.id)
        if self.down is not None:
            raise ScannerTrouble(self.down)
        self._asking += 1
        if mail is not SAMPLE:
            self.together.append(self._asking)
        try:
            return await self._scan(mail)
        finally:
            self._asking -= 1

    async def _scan(self, mail: Mail) -> Answered:
        crash = self._crash
        await self._going.wait()
        await asyncio.sleep(0)  # others come in beside
        if self.rubbish:
            raise ScannerTrouble("it answered rubbish", "message")
        if mail is not SAMPLE and self.breaks_at(mail):
            self._crash, _ = asyncio.Event(), crash.set()
        await asyncio.sleep(0)
        if crash.is_set():
            raise ScannerTrouble("the connection broke", "message")
        return self.answer(mail)

    async def ping(self) -> None:
        if self.down is not None:
            raise ScannerTrouble(self.down)

    async def version(self) -> str:
        return "Scripted 1.0"

    async def close(self) -> None:
        self.closed = True


def _look(mail: Mail) -> Answered:
    if VIRUS in bytes(mail.octets):
        return Answered(verdict="infected", signature="Test.Virus", engine="Scripted 1.0")
    return CLEAN
