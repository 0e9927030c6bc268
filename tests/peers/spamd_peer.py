"""A spamd for tests: CHECK, SYMBOLS, HEADERS and PING of SPAMC/1.5, one question a connection.

peer = SpamdPeer()
peer.scores[b"cheap pills"] = (7.5, ("CHEAP_PILLS", "PILLS"))    # GTUBE it knows; all else scores 0
peer.fault("answer", "reply", text="SPAMD/1.5 74 I/O error\\r\\n\\r\\n")
port = await peer.start()
"""

import re

from cli.stand_ins import Conversation
from tests.peers.scanner_peer import GTUBE, Asked, ScannerPeer

VERSION = "SpamAssassin 4.0.1 (2024-03-25)"
REQUEST = re.compile(rb"([A-Z]+) SPAMC/(\d+\.\d+)")


class SpamdPeer(ScannerPeer):
    """The text of a "reply" is the whole answer. `threshold` is its required_score, `headers` what HEADERS gives."""

    def __init__(self, *, threshold: float = 5.0, keep_octets: bool = True) -> None:
        super().__init__(keep_octets=keep_octets)
        self.threshold = threshold
        self.headers = f"X-Spam-Checker-Version: {VERSION} on peer\r\nSubject: x\r\n\r\n"
        self.scores: dict[bytes, tuple[float, tuple[str, ...]]] = {GTUBE: (1000.0, ("GTUBE",))}

    async def serve(self, conversation: Conversation, session: int) -> None:
        found = REQUEST.fullmatch(await conversation.read_line())
        if found is None:
            await conversation.write(b"SPAMD/1.0 76 Bad header line: (it is no request)\r\n")
            return
        command = found[1].decode()
        headers = await self.read_headers(conversation)
        octets = await self.read_content(conversation, session, headers)
        asked = self.note(session, command, headers, octets)
        await self.answer(conversation, asked, self._reply(command, octets), octets)

    def scripted(self, asked: Asked, text: str) -> bytes:
        return text.encode()

    def _reply(self, command: str, octets: bytes) -> bytes:
        if command == "PING":
            return b"SPAMD/1.5 0 PONG\r\n"
        if command not in ("CHECK", "SYMBOLS", "HEADERS"):
            return b"SPAMD/1.0 76 Bad header line: (no such command)\r\n"
        score, rules = next((s for text, s in self.scores.items() if text in octets), (0.0, ()))
        body = {"CHECK": "", "SYMBOLS": ",".join(rules), "HEADERS": self.headers}[command]
        spam = "True" if score >= self.threshold else "False"
        head = "SPAMD/1.1 0 EX_OK\r\n" + (f"Content-length: {len(body)}\r\n" if command != "CHECK" else "")
        return f"{head}Spam: {spam} ; {score:.1f} / {self.threshold:.1f}\r\n\r\n{body}".encode()
