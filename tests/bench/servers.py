"""A POP3 server and an SMTP sink that are as fast as Python lets them be, in a process of their own.

For measuring clients: they check nothing and follow only what a well-behaved client says (RFC 1939 with PIPELINING and
UIDL, RFC 5321 with PIPELINING). Every answer is made before it is asked for. The sink acknowledges each segment at
once: a client that writes a message in small pieces would otherwise wait for the kernel's delayed acknowledgement.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import sleep
from typing import Any

MESSAGE_ID = re.compile(rb"^Message-I[Dd]: <([^>]*)>", re.MULTILINE)
LOOK_SECONDS = 0.002
CAPABILITIES = b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n"
GREETING = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n"

Mailboxes = Mapping[str, Sequence[bytes]]


class Servers:
    """The process, its ports, and what may be asked of it."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._line, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far,), daemon=True)
        self._process.start()
        self.pop3_port, self.smtp_port = self._line.recv()

    def fill(self, mailboxes: Mailboxes) -> None:
        """Replace all mailboxes, and forget what arrived."""
        self._line.send(mailboxes)
        self._line.recv()

    def result(self) -> tuple[Counter[bytes], int]:
        """Return how often each Message-ID arrived, and how many messages the mailboxes still hold."""
        self._line.send(None)
        found: tuple[Counter[bytes], int] = self._line.recv()
        return found

    def wait_for(self, count: int) -> None:
        """Wait until so many messages have arrived."""
        self._line.send(count)
        self._line.recv()

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


class _State:
    def __init__(self) -> None:
        self.mailboxes: dict[str, dict[int, tuple[int, bytes]]] = {}
        self.arrived: Counter[bytes] = Counter()
        self.count = 0

    def fill(self, mailboxes: Mailboxes) -> None:
        self.arrived = Counter()
        self.count = 0
        self.mailboxes = {
            user: {n: (len(octets), _answer(octets)) for n, octets in enumerate(messages, start=1)}
            for user, messages in mailboxes.items()
        }


def _answer(octets: bytes) -> bytes:
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    return b"+OK\r\n" + stuffed + b".\r\n"


class _Lines(asyncio.Protocol):
    """Feeds whole lines to `said`, and sends the answers to all of a segment at once."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.waiting = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.socket: socket.socket = transport.get_extra_info("socket")
        transport.write(self.hello)

    def data_received(self, data: bytes) -> None:
        lines = (self.waiting + data).split(b"\r\n")
        self.waiting = lines.pop()
        self.transport.writelines([answer for line in lines if (answer := self.said(line))])

    hello = b""

    def said(self, line: bytes) -> bytes:
        raise NotImplementedError


class _Pop3(_Lines):
    hello = b"+OK\r\n"

    def said(self, line: bytes) -> bytes:
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        if verb == b"CAPA":
            return CAPABILITIES
        if verb == b"USER":
            self.user, self.deleted = rest.decode(), set[int]()
            self.box = self.state.mailboxes[self.user]
        elif verb == b"RETR" or verb == b"TOP":
            return self.box[int(rest.split()[0])][1]
        elif verb == b"DELE":
            self.deleted.add(int(rest))
        elif verb == b"STAT":
            return b"+OK %d %d\r\n" % (len(self.box), sum(size for size, _ in self.box.values()))
        elif verb == b"LIST" and rest:
            return b"+OK %s %d\r\n" % (rest, self.box[int(rest)][0])
        elif verb == b"LIST":
            return b"+OK\r\n" + b"".join(b"%d %d\r\n" % (n, one[0]) for n, one in self.box.items()) + b".\r\n"
        elif verb == b"UIDL":
            return (
                b"+OK\r\n"
                + b"".join(b"%d %s-%d\r\n" % (n, self.user.encode(), n) for n in self.box)
                + b".\r\n"
            )
        elif verb == b"QUIT":
            for number in self.deleted:
                del self.box[number]
            self.transport.write(b"+OK\r\n")
            self.transport.close()
            return b""
        elif verb not in (b"PASS", b"NOOP", b"RSET"):
            return b"-ERR\r\n"
        return b"+OK\r\n"


class _Sink(_Lines):
    hello = b"220 sink\r\n"

    def __init__(self, state: _State) -> None:
        super().__init__(state)
        self.content: bytearray | None = None

    def data_received(self, data: bytes) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        while data:
            data = self._command(data) if self.content is None else self._more(self.content, data)

    def _command(self, data: bytes) -> bytes:
        line, end, rest = (self.waiting + data).partition(b"\r\n")
        self.waiting = b"" if end else line
        if end:
            self.transport.write(self.said(line))
        return rest

    def _more(self, content: bytearray, data: bytes) -> bytes:
        start = max(0, len(content) - 4)
        content += data
        end = content.find(b"\r\n.\r\n", start)
        if end < 0:
            return b""
        found = MESSAGE_ID.search(content)
        self.state.arrived[found[1] if found else b""] += 1
        self.state.count += 1
        self.transport.write(b"250 2.0.0 taken\r\n")
        self.content = None
        return bytes(content[end + 5 :])

    def said(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return GREETING
        if verb == b"DATA":
            self.content = bytearray(b"\r\n")
            return b"354 go on\r\n"
        if verb == b"QUIT":
            self.transport.write(b"221 bye\r\n")
            self.transport.close()
            return b""
        return b"250 2.0.0 ok\r\n"


def _serve(line: Connection) -> None:
    asyncio.run(_run(line))


async def _run(line: Connection) -> None:
    state, loop = _State(), asyncio.get_running_loop()
    servers = [await loop.create_server(partial(kind, state), "127.0.0.1", 0) for kind in (_Pop3, _Sink)]
    line.send(tuple(server.sockets[0].getsockname()[1] for server in servers))

    def obey() -> None:
        while True:
            try:
                asked = line.recv()
            except EOFError:  # whoever measures is gone
                loop.call_soon_threadsafe(ended.set)
                return
            if isinstance(asked, int):
                while state.count < asked:
                    sleep(LOOK_SECONDS)
                line.send(None)
                continue
            if asked is not None:
                state.fill(asked)
            line.send((state.arrived, sum(map(len, state.mailboxes.values()))))

    ended = asyncio.Event()
    threading.Thread(target=obey, daemon=True).start()
    await ended.wait()
