"""A clamd for tests: INSTREAM, PING, VERSION and IDSESSION by TCP and, if wanted, by a socket in the file system.

    peer = ClamdPeer(unix_path=path)
    peer.signatures[b"bad octets"] = "Test.Bad"       # EICAR it knows
    peer.fault("answer", "reply", text="INSTREAM size limit exceeded. ERROR", matching="INSTREAM")
    port = await peer.start()

As the real one it answers by NUL to commands with z, by LF to those with n; in an IDSESSION each answer has its number in
front. A message above `stream_max_octets` is answered as soon as that is clear, and the connection closed.
"""

import asyncio
from pathlib import Path

from cli.stand_ins import Conversation, Hangup
from tests.peers.faults import half_close
from tests.peers.scanner_peer import EICAR, PIECE_OCTETS, Asked, ScannerPeer

VERSION = "ClamAV 1.4.6/27500/Mon Jan  5 09:00:00 2026"
TOO_LARGE = "INSTREAM size limit exceeded. ERROR"
# What a client still sends is thrown away for so long, so that the answer isn't lost to a reset. The real one doesn't.
LINGER_SECONDS = 5.0


class ClamdPeer(ScannerPeer):
    """The text of a "reply" is the answer without its end mark; in an IDSESSION the number is put in front.

    `rude` closes at once after TOO_LARGE, as the real one does:
    then what the client still writes may meet a reset that destroys the answer.
    """

    def __init__(
        self,
        *,
        unix_path: Path | None = None,
        stream_max_octets: int = 25 << 20,
        version: str = VERSION,
        rude: bool = False,
        keep_octets: bool = True,
    ) -> None:
        super().__init__(keep_octets=keep_octets)
        self.unix_path = unix_path
        self.stream_max_octets = stream_max_octets
        self.version = version
        self.rude = rude
        self.signatures: dict[bytes, str] = {EICAR: "Eicar-Test-Signature"}
        self._unix: asyncio.Server | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        port = await super().start(port, host)
        if self.unix_path is not None:
            loop = asyncio.get_running_loop()
            self.unix_path.unlink(missing_ok=True)
            self._unix = await loop.create_unix_server(lambda: Conversation(self._open), self.unix_path)
        return port

    async def stop(self) -> None:
        unix, self._unix = self._unix, None
        if unix is not None:
            unix.close()
        await super().stop()
        if unix is not None and self.unix_path is not None:
            await unix.wait_closed()
            self.unix_path.unlink(missing_ok=True)

    async def serve(self, conversation: Conversation, session: int) -> None:
        await _Session(self, conversation, session).run()

    def judge(self, octets: bytes) -> str:
        """What it says of a message."""
        found = next((name for octet, name in self.signatures.items() if octet in octets), None)
        return "stream: OK" if found is None else f"stream: {found} FOUND"

    def scripted(self, asked: Asked, text: str) -> bytes:
        return text.encode()


class _Session:
    def __init__(self, peer: ClamdPeer, conversation: Conversation, number: int) -> None:
        self._peer = peer
        self._conversation = conversation
        self._number = number
        self._commands = 0
        self._in_session = False
        self._over = False

    async def run(self) -> None:
        while not self._over:
            kind = await self._conversation.read_octets(1)
            if kind not in (b"z", b"n"):
                await self._conversation.write(b"UNKNOWN COMMAND\n")
                return
            mark = b"\0" if kind == b"z" else b"\n"
            command = (await self._conversation.read_until(mark))[:-1].decode("latin-1")
            await self._command(command, mark)
            self._over = self._over or not self._in_session

    async def _command(self, command: str, mark: bytes) -> None:
        if command == "IDSESSION":
            self._in_session = True
            self._peer.note(self._number, command)
            return
        self._commands += 1
        match command:
            case "PING":
                await self._say(self._peer.note(self._number, command), "PONG", mark)
            case "VERSION":
                await self._say(self._peer.note(self._number, command), self._peer.version, mark)
            case "INSTREAM":
                await self._instream(mark)
            case "END":
                self._over = True
            case _:
                self._over = True
                await self._say(self._peer.note(self._number, command), "UNKNOWN COMMAND", mark)

    async def _instream(self, mark: bytes) -> None:
        octets = await self._content()
        if octets is None:
            self._over = True
            await self._say(self._peer.note(self._number, "INSTREAM"), TOO_LARGE, mark)
            if not self._peer.rude:
                await self._throw_away()
            return
        asked = self._peer.note(self._number, "INSTREAM", octets=octets)
        await self._say(asked, self._peer.judge(octets), mark, octets)

    async def _content(self) -> bytes | None:
        """The message, None when it is too large. Raises Hangup."""
        fault = await self._peer.amid(self._conversation, self._number)
        octets = bytearray()
        while size := int.from_bytes(await self._conversation.read_octets(4)):
            if len(octets) + size > self._peer.stream_max_octets:
                return None
            while size:
                piece = min(size, PIECE_OCTETS)
                octets += await self._peer.read_amid(self._conversation, piece, len(octets), fault)
                size -= piece
        return bytes(octets)

    async def _throw_away(self) -> None:
        half_close(self._conversation)
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while True:
                    await self._conversation.read_octets(max(1, self._conversation.waiting_octets))
        except (TimeoutError, Hangup):
            return

    async def _say(self, asked: Asked, text: str, mark: bytes, content: bytes = b"") -> None:
        number = f"{self._commands}: ".encode() if self._in_session else b""
        await self._peer.answer(self._conversation, asked, text.encode(), content, frame=(number, mark))
