"""A client that says exactly the octets it is told to, on a blocking socket."""

import socket
import ssl
from types import TracebackType
from typing import Self

# Only ends a hung test.
ANSWER_SECONDS = 30.0


class RawClient:
    """`with RawClient(port) as client:` connects to 127.0.0.1; leaving closes."""

    def __init__(self, port: int) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        self._waiting = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def say(self, octets: bytes) -> None:
        """Send exactly this."""
        self.socket.sendall(octets)

    def ask(self, line: bytes) -> bytes:
        """Send a line, return the next line of the answer with its CRLF, b"" if the server left."""
        self.say(line + b"\r\n")
        return self.line()

    def line(self) -> bytes:
        """The next line with its CRLF; what there is, if the server leaves."""
        return self.until(b"\r\n")

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with the mark; what there is, if the server leaves."""
        while mark not in self._waiting:
            octets = self._receive()
            if not octets:
                rest, self._waiting = self._waiting, b""
                return rest
            self._waiting += octets
        end = self._waiting.index(mark) + len(mark)
        octets, self._waiting = self._waiting[:end], self._waiting[end:]
        return octets

    def reply(self) -> bytes:
        """A whole SMTP reply, all its lines."""
        lines = self.line()
        while lines.rpartition(b"\r\n")[0].rpartition(b"\r\n")[2][3:4] == b"-":
            lines += self.line()
        return lines

    def rest(self) -> bytes:
        """Everything until the server leaves."""
        while octets := self._receive():
            self._waiting += octets
        rest, self._waiting = self._waiting, b""
        return rest

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands; the certificate is checked for 127.0.0.1."""
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except ConnectionResetError:
            return b""
