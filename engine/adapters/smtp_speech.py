"""What a client says and hears on one connection: lines in, replies out, its time-outs and its end.

On aiosmtpd, of which we use the connection and STARTTLS (RFC 3207; what came before the handshake is thrown away).
The dialogue is our own: octets are read in whole chunks, the replies to what was pipelined go out together (RFC 2920), and a
command ends with CRLF alone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, cast

from aiosmtpd.smtp import SMTP

from engine.wire.lines import LineBuffer, TooLong

CHUNK_OCTETS: Final = 256 * 1024
BUFFER_OCTETS: Final = 64 * 1024  # twice as much may wait to be read
LINGER_SECONDS: Final = 2.0  # for what a client sends that we have turned away
FAREWELL_SECONDS: Final = 10.0  # to read our last words
TLS_END_SECONDS: Final = 1.0  # to answer the end of TLS, which a client that waits for nothing never does
PACE_OCTETS: Final = 1_024  # a second, where a pace is asked for: any honest line is faster
ENDLESS_LINE_OCTETS: Final = 64 * 1024  # of a line without an end are one more error

LINE_END: Final = b"500 5.5.2 A command ends with CR LF\r\n"
EMPTY_LINE: Final = b"500 5.5.2 An empty line is no command\r\n"
SILENT: Final = b"421 4.4.2 Nothing was heard for too long\r\n"
SLOW: Final = b"421 4.4.2 Too little was heard for too long\r\n"
TOO_LONG: Final = b"500 5.5.2 The line is too long\r\n"

_NO_HOOKS: Final = object()


class Over(Exception):
    """The session is over; `reply` is the last word, b"" for none. `lingers` where the client may still be sending."""

    def __init__(self, reply: bytes = b"", *, lingers: bool = False) -> None:
        super().__init__(reply)
        self.reply = reply
        self.lingers = lingers


class Speech(SMTP):
    """The octets of one connection.

    `idle_seconds` is how long a client may say nothing. Where it is `paced`, it may in so long not say less than a pace
    asks for, either: an octet now and then is as good as silence.
    """

    line_length_limit = BUFFER_OCTETS

    def __init__(self, hostname: str, idle_seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_NO_HOOKS, hostname=hostname, enable_SMTPUTF8=True, timeout=idle_seconds, loop=loop)
        self.heard_at = loop.time()
        self.waits = False  # for the client
        self.paced = False
        self.faults = 0  # lines that are no commands, since the last message that was taken
        self._idle_seconds = idle_seconds
        self._buffer = LineBuffer()
        self._out = b""
        self._skipping = False  # the rest of a line that is too long
        self._skipped = 0  # octets of it that count as no error yet
        self._came = 0  # octets since `heard_at`
        self._farewell = b""  # to be said as soon as no transaction is under way

    @property
    def idle(self) -> bool:
        """Whether it waits for a client that has no transaction under way."""
        raise NotImplementedError

    # -- what asyncio and aiosmtpd call

    def eof_received(self) -> bool:
        """The client says no more, and may still listen: what it said is answered."""
        super(SMTP, self).eof_received()
        return self._original_transport is None  # TLS knows no half-open connection

    async def push(self, status: str | bytes) -> None:
        """Say what aiosmtpd itself has to say, with the enhanced code that it doesn't know."""
        text = status if isinstance(status, str) else status.decode()
        await super().push("220 2.0.0 Ready to start TLS" if text == "220 Ready to start TLS" else text)

    def _timeout_cb(self) -> None:
        """A timer per connection, not per command: look whether it has been quiet, or slow, for so long."""
        left = self._idle_seconds - (self.loop.time() - self.heard_at)
        if self.waits and left <= 0:
            self._close(SLOW if self.paced else SILENT)
        else:
            self._reset_timeout(left if self.waits else self._idle_seconds)

    # -- its end

    def dismiss(self, farewell: bytes) -> None:
        """Say farewell as soon as no transaction is under way."""
        if self.idle:
            self._close(farewell)
        else:
            self._farewell = farewell

    def cut(self) -> None:
        """End the connection, whatever is under way."""
        if self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()

    async def _part(self, last_words: bytes, *, lingers: bool) -> None:
        """Say the last words and close. What the client still sends is read for a moment: unread, it would undo our words."""
        if self.transport is None:
            return
        transport = cast(asyncio.Transport, self.transport)
        if lingers and transport.can_write_eof():
            transport.write(last_words)
            transport.write_eof()
            last_words = b""
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while await self._reader.read(CHUNK_OCTETS):
                        pass
        self._close(last_words)

    def _close(self, last_words: bytes) -> None:
        transport = cast(asyncio.Transport | None, self.transport)
        if transport is None or transport.is_closing():
            return
        if last_words:
            transport.write(last_words)
        transport.close()
        if transport.get_write_buffer_size():
            self.loop.call_later(FAREWELL_SECONDS, transport.abort)
        elif self._original_transport is not None:
            self.loop.call_later(TLS_END_SECONDS, transport.abort)

    # -- lines and replies

    def _line(self, limit_octets: int) -> bytes | None:
        """The next line without its end, b"" where it was answered already, None while it is unfinished."""
        if self._skipping and not self._skip():
            return None
        try:
            line = self._buffer.line(limit_octets)
        except TooLong:
            self._skipping = True
            return self._line(limit_octets)
        if line is None:
            return None
        if line.find(b"\r") != len(line) - 2 or line == b"\r\n":
            self._refuse(EMPTY_LINE if line == b"\r\n" else LINE_END)
            return b""
        return line[:-2]

    def _skip(self) -> bool:
        """Throw away the rest of a line; True when its end was there."""
        end = self._buffer.octets.find(b"\n", self._buffer.start)
        if end < 0:
            errors, self._skipped = divmod(self._skipped + len(self._buffer), ENDLESS_LINE_OCTETS)
            self.faults += errors
            self._buffer.clear()
            return False
        self._buffer.start = end + 1
        self._skipping = False
        self._refuse(TOO_LONG)
        return True

    def _refuse(self, reply: bytes) -> None:
        self.faults += 1
        self._out += reply

    async def _flush(self) -> None:
        """Send what was answered."""
        out, self._out = self._out, b""
        if not out:
            return
        self._writer.write(out)
        if self._writer.transport.get_write_buffer_size():
            self.waits = True
            await self._writer.drain()
            self.waits = False

    async def _more(self) -> None:
        """Wait for more octets. Raises Over where none will come."""
        self.waits = True
        octets = await self._reader.read(CHUNK_OCTETS)
        self.waits = False
        self._came += len(octets)
        if not self.paced or self._came >= PACE_OCTETS * self._idle_seconds:
            self.heard_at, self._came = self.loop.time(), 0
        if not octets:
            raise Over
        self._buffer.feed(octets)
