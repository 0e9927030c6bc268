"""rspamd's protocol: HTTP/1.1 by h11, and the JSON of /checkv2 (rspamd.com, "protocol"); one question a connection.

h11 is the HTTP of httpx and uvicorn alone: it never opens a socket either, has no dependencies, and takes both kinds of length
and every way to cut a response; httpx brings ten times as much code for the same request. Only who scans by rspamd imports this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import h11
import msgspec

from engine.wire.rubbish import Rubbish, shown

PIECE_OCTETS: Final = 64 * 1024
MOST_BODY_OCTETS: Final = 1 << 20  # a mail with hundreds of links makes some 50 KB
MOST_SYMBOLS: Final = 100
MOST_SYMBOL_CHARACTERS: Final = 100
USER_AGENT: Final = ("User-Agent", "mailgate")


class Checked(msgspec.Struct, frozen=True):
    """What /checkv2 says, as far as it concerns us."""

    action: str
    score: float
    required_score: float | None = None
    symbols: dict[str, Any] = {}
    is_skipped: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The symbols' names."""
        return tuple(shown(name, MOST_SYMBOL_CHARACTERS) for name in self.symbols)[:MOST_SYMBOLS]


_CHECKED = msgspec.json.Decoder(Checked)


def checked(body: bytes) -> Checked:
    """Read the answer of /checkv2. Raises Rubbish."""
    try:
        found = _CHECKED.decode(body)
    except msgspec.DecodeError as fault:
        raise Rubbish(f"no verdict ({fault}): {shown(body)}") from None
    return msgspec.structs.replace(found, action=shown(found.action))


def header(name: str, value: str) -> tuple[bytes, bytes] | None:
    """A header that HTTP can carry, None where nothing is left of the value: what would break the line is left out."""
    kept = "".join(c for c in value if c.isprintable()).strip()
    return (name.encode("ascii"), kept.encode("utf-8", "replace")) if kept else None


class Exchange:
    """One request and its response. Once `feed` said True, `status`, `server` and `body` are there."""

    def __init__(self) -> None:
        self.status = 0
        self.server = ""
        self.body = b""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=16_384)
        self._pieces: list[bytes] = []
        self._octets = 0

    def get(self, target: str, host: str) -> bytes:
        """A request without content."""
        return b"".join(self._request("GET", target, host, ()))

    def post(
        self,
        target: str,
        host: str,
        headers: Sequence[tuple[bytes, bytes]],
        octets: bytes | bytearray | memoryview,
    ) -> Iterator[bytes]:
        """A request with a message, in the pieces to send. A small one comes whole."""
        length = (b"Content-Length", str(len(octets)).encode("ascii"))
        view = memoryview(octets)
        lead, end = self._request("POST", target, host, (*headers, length), view)
        first = view[:PIECE_OCTETS]
        yield b"".join((lead, first, end))
        for at in range(PIECE_OCTETS, len(view), PIECE_OCTETS):
            yield bytes(view[at : at + PIECE_OCTETS])

    def feed(self, octets: bytes) -> bool:
        """Take octets, b"" for the end of the connection; True once the response is whole. Raises Rubbish."""
        try:
            self._connection.receive_data(octets)
            return self._read()
        except h11.RemoteProtocolError as fault:
            raise Rubbish(f"no HTTP: {shown(str(fault))}") from None

    def _request(
        self,
        method: str,
        target: str,
        host: str,
        headers: Sequence[tuple[bytes, bytes]],
        content: memoryview | None = None,
    ) -> tuple[bytes, bytes]:
        """The head, and what ends the request. h11 is told of the content, which goes its own way: it isn't copied."""
        ours = [("Host", host), USER_AGENT, ("Connection", "close")]
        encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in ours]
        request = h11.Request(method=method, target=target, headers=[*encoded, *headers])
        head = self._connection.send(request)
        if content:
            self._connection.send_with_data_passthrough(h11.Data(data=cast(bytes, content)))
        end = self._connection.send(h11.EndOfMessage())
        return head or b"", end or b""

    def _read(self) -> bool:
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return False
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.server = next((shown(bytes(v)) for n, v in event.headers if n == b"server"), "")
            elif isinstance(event, h11.Data):
                self._take(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.body = b"".join(self._pieces)
                return True
            elif isinstance(event, h11.ConnectionClosed):
                return False

    def _take(self, octets: bytes) -> None:
        self._octets += len(octets)
        if self._octets > MOST_BODY_OCTETS:
            raise Rubbish(f"a response without end: {shown(octets)}")
        self._pieces.append(octets)
