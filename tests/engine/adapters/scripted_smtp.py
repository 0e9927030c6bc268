"""A small SMTP server that does what a test tells it, right or wrong, reply by reply.

    async with ScriptedServer() as server:
        server.on("RCPT", "550 5.1.1 no such user")         # or a function of the command line
        ...
    server.taken  # the transactions, as they came

A scripted reply may also be DROP (reset the connection), CLOSE (close it), SILENCE (say nothing), or bytes (sent as
they are). Rules for "GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT", ... hold for every connection.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
# Ends a hung test; no passing test comes near it.
PATIENCE_SECONDS = 20.0

DROP, CLOSE, SILENCE = "drop", "close", "silence"
Script = str | bytes


@dataclass
class Taken:
    mail: str
    rcpts: list[str]
    octets: bytes  # as sent, dots still stuffed, without the final dot
    connection: int


@dataclass
class Connection:
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ahead: int = 0  # the most octets ever found waiting behind a command
    lines: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    pending: bytes = b""
    seen: bytes = b""  # what came after the last 354

    async def line(self) -> str | None:
        while b"\r\n" not in self.pending:
            if not await self.more():
                return None
        line, _, self.pending = self.pending.partition(b"\r\n")
        self.ahead = max(self.ahead, len(self.pending))
        self.lines.append(line.decode())
        return self.lines[-1]

    async def more(self) -> bool:
        octets = await self.reader.read(65536)
        self.pending += octets
        return bool(octets)


class ScriptedServer:
    """Listens on a free port of the loopback while its block runs."""

    def __init__(
        self,
        extensions: tuple[str, ...] = EXTENSIONS,
        *,
        implicit_tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
    ) -> None:
        self.extensions = extensions
        self.starttls = starttls
        self.taken: list[Taken] = []
        self.connections: list[Connection] = []
        self.open = 0
        self.most_open = 0
        self.port = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._implicit_tls = implicit_tls
        self._rules: dict[str, Script | Callable[[str], Script]] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, verb: str, script: Script | Callable[[str], Script]) -> None:
        self._rules[verb] = script

    @property
    def lines(self) -> list[str]:
        return [line for connection in self.connections for line in connection.lines]

    def verbs(self, connection: int = 0) -> list[str]:
        """The commands of one connection, so far."""
        lines = self.connections[connection].lines if connection < len(self.connections) else []
        return [line.partition(" ")[0] for line in lines]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something the server saw makes the condition true."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(condition)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._implicit_tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.reading.set()
        for connection in self.connections:
            connection.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        faults = [result for result in results if isinstance(result, Exception)]
        if faults and error[0] is None:
            raise faults[0]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(len(self.connections), reader, writer)
        self.connections.append(connection)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._talk(connection)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            connection.over.set()
            writer.transport.abort()
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _talk(self, connection: Connection) -> None:
        if not await self._say(connection, "GREETING", "", "220 scripted.example ready"):
            return
        mail, rcpts, secure = "", [], False
        while (line := await connection.line()) is not None:
            await self._notify()
            verb = line.partition(" ")[0].upper()
            default = self._default(verb, secure=secure)
            reply = await self._say(connection, verb, line, default)
            if not reply:
                return
            if verb == "QUIT":
                return
            if verb == "STARTTLS" and reply.startswith("220") and self.starttls is None:
                await connection.more()
                connection.writer.write(b"this is not TLS\r\n")
                await connection.writer.drain()
                return
            if verb == "STARTTLS" and reply.startswith("220"):
                await connection.writer.start_tls(self.starttls)
                secure = True
            elif verb == "MAIL":
                mail, rcpts = line, []
            elif verb == "RCPT" and reply.startswith("2"):
                rcpts.append(line)
            elif verb == "DATA" and reply.startswith("354"):
                octets = await self._content(connection)
                if octets is None:
                    return
                self.taken.append(Taken(mail, rcpts, octets, connection.number))
                if not await self._say(connection, "DOT", "", "250 2.0.0 queued"):
                    return

    def _default(self, verb: str, *, secure: bool) -> str:
        if verb == "EHLO":
            offers = [*self.extensions, *(["STARTTLS"] if self.starttls and not secure else [])]
            lines = ["scripted.example", *offers]
            return "\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines)
        return {"DATA": "354 go on", "QUIT": "221 bye", "STARTTLS": "220 go on"}.get(verb, "250 2.0.0 ok")

    async def _say(self, connection: Connection, verb: str, line: str, default: str) -> str:
        """The reply sent; empty where the conversation is over."""
        script = self._rules.get(verb, default)
        said = script(line) if callable(script) else script
        writer = connection.writer
        if said == DROP:
            writer.transport.abort()
            return ""
        if said == CLOSE:
            writer.close()
            return ""
        if said == SILENCE:
            return "silence"
        octets = said if isinstance(said, bytes) else said.encode() + b"\r\n"
        writer.write(octets)
        await writer.drain()
        return octets.decode(errors="replace")

    async def _content(self, connection: Connection) -> bytes | None:
        """Content up to the final dot; None where the connection ended before."""
        while True:
            connection.seen = connection.pending
            await self._notify()
            if connection.pending.startswith(b".\r\n"):
                connection.pending = connection.pending[3:]
                return b""
            end = connection.pending.find(b"\r\n.\r\n")
            if end >= 0:
                octets, connection.pending = connection.pending[: end + 2], connection.pending[end + 5 :]
                return octets
            await self.reading.wait()
            if not await connection.more():
                return None
