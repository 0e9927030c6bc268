"""An rspamd for tests: POST /checkv2 and GET /ping by HTTP/1.1, one question a connection.

peer = RspamdPeer()
peer.judged[b"cheap pills"] = Judged(action="add header", score=7.5, symbols={"PILLS": 7.5})   # GTUBE it knows
peer.fault("answer", "reply", text='{"action": 7}')
port = await peer.start()
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from cli.stand_ins import Conversation
from tests.peers.scanner_peer import GTUBE, Asked, ScannerPeer

SERVER = "rspamd/3.4"
PHRASES = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not found",
    500: "Internal error",
    503: "Unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What it says of a message. `symbols` are names and scores."""

    action: str = "no action"
    score: float = 0.0
    required_score: float = 15.0
    symbols: Mapping[str, float] = field(default_factory=dict)
    is_skipped: bool = False

    def body(self) -> bytes:
        """As JSON in the shape of /checkv2."""
        symbols = {name: {"name": name, "score": score} for name, score in self.symbols.items()}
        facts = {
            "is_skipped": self.is_skipped,
            "score": self.score,
            "required_score": self.required_score,
            "action": self.action,
            "symbols": symbols,
            "message-id": "undef",
            "time_real": 0.001,
        }
        return json.dumps(facts).encode()


class RspamdPeer(ScannerPeer):
    """The text of a "reply" is the body. `status` is that of what it judges.

    `chunked` sends bodies in chunks (RFC 9112 section 7.1).
    """

    def __init__(self, *, chunked: bool = False, server: str = SERVER, keep_octets: bool = True) -> None:
        super().__init__(keep_octets=keep_octets)
        self.chunked = chunked
        self.server = server
        self.status = 200
        self.judged: dict[bytes, Judged] = {
            GTUBE: Judged(action="reject", score=15.0, symbols={"GTUBE": 0.0}),
        }

    async def serve(self, conversation: Conversation, session: int) -> None:
        line = (await conversation.read_line()).decode("latin-1")
        if not line.endswith(" HTTP/1.1"):
            await conversation.write(self._response(400, b"no HTTP"))
            return
        method, target, _ = line.split(" ")
        headers = await self.read_headers(conversation)
        octets = await self.read_content(conversation, session, headers)
        asked = self.note(session, target, headers, octets)
        await self.answer(conversation, asked, self._reply(method, target, octets), octets)

    def judge(self, octets: bytes) -> Judged:
        """What it says of a message."""
        return next((judged for text, judged in self.judged.items() if text in octets), Judged())

    def scripted(self, asked: Asked, text: str) -> bytes:
        return self._response(self.status, text.encode())

    def _reply(self, method: str, target: str, octets: bytes) -> bytes:
        match method, target:
            case "POST", "/checkv2":
                return self._response(self.status, self.judge(octets).body())
            case "GET", "/ping":
                return self._response(self.status, b"pong\r\n", "text/plain")
            case _:
                return self._response(404, b'{"error":"invalid command"}')

    def _response(self, status: int, body: bytes, kind: str = "application/json") -> bytes:
        head = f"HTTP/1.1 {status} {PHRASES.get(status, 'Other')}\r\nConnection: close\r\nServer: {self.server}\r\n"
        head += f"Content-Type: {kind}\r\n"
        if not self.chunked:
            return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece]
        chunks = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
