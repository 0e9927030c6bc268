"""ClamAV's clamd, by a unix socket or TCP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, assert_never

from engine.adapters.known_version import KnownVersion
from engine.adapters.scanner_line import ScannerLine
from engine.ports import Answered, Mail, ScannerTrouble
from engine.settings.addresses import SocketAddress
from engine.wire import clamd

# What clamd says when its own house is in disorder: no message is to blame that its folder is full or its memory used up.
OWN_TROUBLE: Final = ("temporary", "can't create", "can't write", "can't open", "no space", "allocate memory")


class ClamdScanner:
    """One clamd. Its verdicts are clean, infected, and unscannable above its StreamMaxLength."""

    def __init__(self, name: str, address: SocketAddress) -> None:
        self.name = name
        self._line = ScannerLine(address)
        self._version = KnownVersion(self.version)

    async def scan(self, mail: Mail) -> Answered:
        """Ask about one message. Raises ScannerTrouble."""
        engine = await self._version.text()
        verdict = clamd.verdict(await self._asked(clamd.instream(mail.octets), "message"))
        match verdict:
            case clamd.Nothing():
                return Answered(verdict="clean", engine=engine)
            case clamd.Found(name):
                return Answered(verdict="infected", signature=name, engine=engine)
            case clamd.TooLarge(text):
                return Answered(verdict="unscannable", detail=text, engine=engine)
            case clamd.Failed(text):
                own = any(mark in text.lower() for mark in OWN_TROUBLE)
                raise ScannerTrouble(f"it can't scan: {text}", "scanner" if own else "message")
            case clamd.Unknown(text):
                raise ScannerTrouble(f"{self._line.where} answered rubbish: {text}", "message")
            case _:
                assert_never(verdict)

    async def ping(self) -> None:
        """Return if it is well. Raises ScannerTrouble."""
        reply = await self._asked([clamd.command("PING")], "scanner")
        if reply != "PONG":
            raise ScannerTrouble(f"{self._line.where} is no clamd: it answers {reply} to PING")

    async def version(self) -> str:
        """Return what it calls itself, with the number and the date of its signatures. Raises ScannerTrouble."""
        return await self._asked([clamd.command("VERSION")], "scanner")

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _asked(self, pieces: Iterable[bytes], blame: Literal["scanner", "message"]) -> str:
        reader = clamd.ReplyReader()
        await self._line.converse(pieces, reader.feed, blame=blame)
        assert reader.reply is not None
        return reader.reply
