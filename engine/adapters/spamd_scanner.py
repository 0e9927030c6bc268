"""SpamAssassin's spamd, by a unix socket or TCP."""

from __future__ import annotations

from typing import Final, Literal

from engine.adapters.known_version import KnownVersion
from engine.adapters.scanner_line import ScannerLine
from engine.ports import Answered, Mail, ScannerTrouble
from engine.settings.addresses import SocketAddress
from engine.wire import spamd
from engine.wire.rubbish import shown

ANEW_SECONDS: Final = 600.0  # it takes a scan to learn the version
# Of sysexits.h: the service is there, but isn't well. No message is to blame.
OWN_TROUBLE: Final = {
    69: "unavailable",
    71: "system error",
    74: "I/O error",
    75: "temporary failure",
    78: "configuration",
}
NOTHING: Final = b"\r\n"  # spamd waits for more after a length of 0
EMPTY: Final = b"Subject: version\r\n\r\n"
VERSION_HEADER: Final = "X-Spam-Checker-Version:"
UNKNOWN: Final = "SpamAssassin"


class SpamdScanner:
    """One spamd. Its verdicts are clean and spam, with a score."""

    def __init__(self, name: str, address: SocketAddress) -> None:
        self.name = name
        self._line = ScannerLine(address)
        self._version = KnownVersion(self.version, ANEW_SECONDS)

    async def scan(self, mail: Mail) -> Answered:
        """Ask about one message. Raises ScannerTrouble."""
        engine = await self._version.text()
        reply = await self._asked("SYMBOLS", mail.octets or NOTHING, "message")
        if reply.spam is None:
            raise ScannerTrouble(f"{self._line.where} answered without a verdict: {reply.text}", "message")
        return Answered(
            verdict="spam" if reply.spam else "clean",
            score=reply.score,
            threshold=reply.threshold,
            symbols=reply.rules,
            engine=engine,
        )

    async def ping(self) -> None:
        """Return if it is well. Raises ScannerTrouble."""
        reader = spamd.ReplyReader()
        await self._line.converse([spamd.ping()], reader.feed, blame="scanner")
        if reader.reply is None or reader.reply.text != "PONG":
            said = reader.reply.text if reader.reply else ""
            raise ScannerTrouble(f"{self._line.where} is no spamd: it answers {said} to PING")

    async def version(self) -> str:
        """Return what SpamAssassin calls itself in the headers that it would add. Raises ScannerTrouble."""
        reply = await self._asked("HEADERS", EMPTY, "scanner")
        lines = (line for line in reply.body.splitlines() if line.startswith(VERSION_HEADER))
        return shown(next(lines, UNKNOWN).removeprefix(VERSION_HEADER))

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _asked(
        self, verb: str, octets: bytes | bytearray | memoryview, blame: Literal["scanner", "message"]
    ) -> spamd.Reply:
        reader = spamd.ReplyReader()
        await self._line.converse(spamd.question(verb, octets), reader.feed, blame=blame)
        reply = reader.reply
        assert reply is not None
        if reply.code == 0:
            return reply
        own = OWN_TROUBLE.get(reply.code)
        text = f"it can't scan: {reply.code} {reply.text or own or ''}".rstrip()
        raise ScannerTrouble(text, "scanner" if own else blame)
