"""POST by HTTP/1.1 as a client, request after request on one connection (RFC 9112), by h11.

What the far side says is bounded: of an answer that has no end the status counts all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import h11

from engine.wire.rubbish import Rubbish, shown

MOST_BODY_OCTETS: Final = 64 * 1024  # read for the sake of the connection; beyond that a new one is cheaper
MOST_HEAD_OCTETS: Final = 32 * 1024
KEPT_OCTETS: Final = 1_000  # for a person to read
USER_AGENT: Final = ("User-Agent", "mailgate")


class Posting:
    """One connection. After `post`, `feed` what comes until it is `answered`; then `status` and `retry_after` are there."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_OCTETS)
        self._octets = 0
        self._ended = False
        self.heard = False  # anything at all of this answer
        self.status = 0
        self.retry_after: int | None = None  # seconds
        self.beginning = b""

    def post(self, target: str, host: str, headers: Iterable[tuple[str, str]], octets: bytes) -> bytes:
        """Return what to send."""
        if self._connection.our_state is h11.DONE:
            self._connection.start_next_cycle()
        self._octets, self.heard, self.status, self.retry_after, self.beginning = 0, False, 0, None, b""
        every = [("Host", host), USER_AGENT, *headers, ("Content-Length", str(len(octets)))]
        encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in every]
        happened = (
            h11.Request(method="POST", target=target, headers=encoded),
            h11.Data(data=octets),
            h11.EndOfMessage(),
        )
        return b"".join(self._connection.send(event) or b"" for event in happened)

    @property
    def answered(self) -> bool:
        """Whether the status is known."""
        return self.status > 0

    @property
    def reusable(self) -> bool:
        """Whether the answer is whole and another request may follow."""
        whole = self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE
        return whole and not self._ended

    @property
    def over(self) -> bool:
        """Whether nothing more is worth reading."""
        ended = self._connection.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)
        return ended or self._octets > MOST_BODY_OCTETS

    def feed(self, octets: bytes) -> None:
        """Take octets, b"" for the end of the connection. Raises Rubbish."""
        self.heard = self.heard or bool(octets)
        self._ended = not octets
        try:
            self._connection.receive_data(octets)
            self._read()
        except h11.RemoteProtocolError as fault:
            raise Rubbish(f"no HTTP: {shown(str(fault))}") from None

    def _read(self) -> None:
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.retry_after = _retry_after(event)
            elif isinstance(event, h11.Data):
                self._octets += len(event.data)
                self.beginning += bytes(event.data[: KEPT_OCTETS - len(self.beginning)])
            elif not isinstance(event, h11.InformationalResponse):
                return


def _retry_after(response: h11.Response) -> int | None:
    said = next((bytes(value) for name, value in response.headers if name == b"retry-after"), b"")
    return int(said) if said.isdigit() and len(said) < 10 else None
