"""One connection to the SMTP listener: octets in, commands to the reception, content to whoever takes it.

Owns the order of things in one session, what an answer alone is not enough for (DATA, STARTTLS, AUTH, BDAT, QUIT), and
the limits on errors and commands. Content is never read line by line, and its memory is taken from a budget as it grows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aiosmtpd.smtp import TLSSetupException

from engine import seams
from engine.adapters import tls
from engine.adapters.smtp_authentication import (
    Cancelled,
    Failures,
    Guess,
    TooManyFailures,
    credentials,
    proven,
)
from engine.adapters.smtp_reception import Reception, Terms
from engine.adapters.smtp_speech import Over, Speech
from engine.core.relaying import address_of
from engine.ports import Holding, NotKept, Octets, Submission, Taking
from engine.wire.smtp_data import DataContent

COMMAND_OCTETS: Final = 4_096  # RFC 5321 asks for 512; an address of SMTPUTF8 with ORCPT and ENVID takes more
RESPONSE_OCTETS: Final = 12_288  # RFC 4954 section 4
UNCOUNTED_OCTETS: Final = 64 * 1024  # content up to here is counted when it is whole
ENDLESS: Final = 10  # times the size limit: whoever sends more is cut off
ERRORS: Final = 50  # since the last message that was taken
STRANGERS_ERRORS: Final = 10
COMMANDS: Final = 1_000  # since the last message that was taken, RCPT aside
LOGIN_FAILURES: Final = 3  # in one connection

# A browser that was talked into speaking to us: what stands in its request must not become commands.
_HTTP: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH"})

GO_AHEAD: Final = b"354 Send the message, then CRLF.CRLF\r\n"
BROKE: Final = b"451 4.3.0 The message could not be kept; come again later\r\n"
FULL: Final = b"452 4.3.1 The message could not be kept for want of room; come again later\r\n"
GOING: Final = b"421 4.3.2 Nothing is kept any more; come again later\r\n"
TOO_MANY_FAILURES: Final = b"454 4.7.0 Too many logins failed from your address; come again later\r\n"

logger = logging.getLogger("mailgate.listen")


class Door(Protocol):
    """What a connection needs of its listener."""

    def admit(self, connection: Connection) -> bytes | None:
        """Take note of a new connection; returns a reply where there is no place for it."""
        ...

    def gone(self, connection: Connection) -> None:
        """A connection that was admitted is no more."""
        ...

    def tls_context(self) -> Any:
        """Return the TLS context as of now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What all connections of a listener share. `idle_seconds` is how long a client may say nothing."""

    terms: Terms
    taking: Taking
    users: Mapping[str, Callable[[], Awaitable[str]]]
    failures: Failures
    idle_seconds: float


class Connection(Speech):
    """One client. The listener's to make, asyncio's to drive."""

    def __init__(self, door: Door, manners: Manners, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manners.terms.hostname, manners.idle_seconds, loop)
        self.reception: Reception  # from connection_made
        self._door = door
        self._manners = manners
        self._admitted = False
        self._in_data = False
        self._login_failures = 0

    @property
    def idle(self) -> bool:
        """Whether it waits for a client that has no transaction under way."""
        return self.waits and not self._in_data and self.reception.transaction is None

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new client, or go on behind TLS with one that is known."""
        # uvloop's transports are no asyncio.Transport by their type, and are by all they do.
        if self._admitted or self._admit(cast(asyncio.Transport, transport)):
            super().connection_made(transport)

    def _admit(self, transport: asyncio.Transport) -> bool:
        peer = transport.get_extra_info("peername")
        if not peer:  # gone already
            transport.abort()
            return False
        self.reception = Reception(self._manners.terms, address_of(peer[0]), self._manners.taking.has_room)
        refusal = self._door.admit(self)
        if refusal is not None:
            transport.write(refusal)
            transport.close()
        self._admitted = refusal is None
        return self._admitted

    def connection_lost(self, error: Exception | None) -> None:
        """Let go of everything. A message that is whole goes on to be kept."""
        if self._admitted:
            self._door.gone(self)
            super().connection_lost(error)

    # -- the dialogue

    async def _handle_client(self) -> None:
        try:
            self._out = f"220 {self._manners.terms.hostname} ESMTP mailgate\r\n".encode()
            while True:
                await self._next()
        except Over as over:
            await self._part(self._out + over.reply, lingers=over.lingers)
        except ConnectionError:
            self._close(b"")
        except Exception:  # a fault of ours must end this session alone
            logger.exception("[%s]: the session broke", self.reception.client.address)
            self._close(b"421 4.3.0 Something broke here; come again later\r\n")

    async def _next(self) -> None:
        """Answer one command, or wait for more of one."""
        line = self._line(COMMAND_OCTETS)
        if line is None:
            if self._farewell and not self._in_data and self.reception.transaction is None:
                raise Over(self._farewell)
            self._check_limits()  # a line without an end is an error the longer it gets
            await self._flush()
            return await self._more()
        words = line.split(None, 1)
        verb = words[0].upper() if words else b""
        slow = _SLOW.get(verb)
        if slow is not None:
            self.reception.commands += 1
            reply = await slow(self, words[1].strip() if len(words) > 1 else b"")
            self._out += reply  # only now: what was answered before went out meanwhile
        elif verb in _HTTP:
            raise Over(b"554 5.7.0 This is not a web server\r\n", lingers=True)
        elif line:
            self._out += self.reception.command(verb, line)
            if (refused := self.reception.too_large) is not None:
                self.reception.too_large = None
                self._manners.taking.rejected(*refused, b"")
        self._check_limits()
        return None

    def _check_limits(self) -> None:
        most = STRANGERS_ERRORS if self.reception.kind == "stranger" else ERRORS
        if self.faults + self.reception.errors >= most:
            raise Over(b"421 4.7.0 Too many errors\r\n", lingers=True)
        if self.reception.commands >= COMMANDS:
            raise Over(b"421 4.7.0 Too many commands and no message\r\n", lingers=True)

    # -- commands that need more than an answer

    async def _data(self, argument: bytes) -> bytes:
        refusal = self.reception.data_refusal(argument)
        if refusal is not None:
            self.reception.errors += refusal[0] == 0x35
            return refusal
        content = DataContent(self._buffer, limit_octets=self._manners.terms.max_size_octets)
        holding = self._manners.taking.holding()
        self._out += GO_AHEAD
        self._in_data = True
        try:
            await self._flush()
            while not content.take(self._buffer):
                self.paced = content.size_octets > UNCOUNTED_OCTETS  # from here on others may wait for it
                if content.too_large:
                    holding.release()
                    self._bound(content)
                elif self.paced:
                    await self._room(holding, len(content.octets))
                await self._more()
        except NotKept:
            holding.release()
            raise Over(GOING, lingers=True) from None
        except BaseException:
            holding.release()
            raise
        finally:
            self._in_data = self.paced = False
        seams.reached("data-read")
        submission = self.reception.submission()
        if content.too_large:
            holding.release()
            return self._too_large(submission, content)
        return await self._kept(submission, content.octets, holding)

    async def _room(self, holding: Holding, octets: int) -> None:
        """Wait for room in memory, for which the client is not to blame."""
        began = self.loop.time()
        await holding.reach(octets)
        self.heard_at += self.loop.time() - began

    def _too_large(self, submission: Submission, content: DataContent) -> bytes:
        limit = self._manners.terms.max_size_octets
        self._manners.taking.rejected(submission, content.size_octets, bytes(content.octets))
        logger.info(
            "[%s]: refused a message of %d octets", self.reception.client.address, content.size_octets
        )
        return f"552 5.3.4 The message is too large: at most {limit} octets are taken here\r\n".encode()

    async def _kept(self, submission: Submission, octets: Octets, holding: Holding) -> bytes:
        """Answer the end of data: 250 once the message is durable, and not before."""
        try:
            kept_as = await self._manners.taking.take(submission, octets, holding)
        except NotKept as trouble:
            logger.debug("[%s]: refused a message for now: %s", self.reception.client.address, trouble)
            return FULL if trouble.full else BROKE
        self.faults = self.reception.errors = self.reception.commands = 0
        seams.reached("before-250")
        return f"250 2.0.0 Ok: kept as {kept_as}\r\n".encode()

    def _bound(self, content: DataContent) -> None:
        if content.size_octets > ENDLESS * self._manners.terms.max_size_octets:
            raise Over(b"552 5.3.4 The message does not end\r\n", lingers=True)

    async def _bdat(self, argument: bytes) -> bytes:
        """CHUNKING isn't offered: its octets must not be read as commands all the same (RFC 3030 section 2)."""
        words = argument.split()
        octets = int(words[0]) if words and words[0].isdigit() and len(words[0]) < 12 else -1
        if not 0 <= octets <= self._manners.terms.max_size_octets:
            raise Over(b"502 5.5.1 BDAT is not known here\r\n", lingers=True)
        while (missing := octets - len(self._buffer)) > 0:
            octets = missing
            self._buffer.clear()
            await self._more()
        self._buffer.start += octets
        self.reception.errors += 1
        return b"502 5.5.1 BDAT is not known here: send the message with DATA\r\n"

    async def _starttls(self, argument: bytes) -> bytes:
        if argument:
            return b"501 5.5.4 Syntax: STARTTLS\r\n"
        if not self._manners.terms.offers_tls:
            return b"502 5.5.1 TLS is not offered here\r\n"
        if self.reception.tls != "none":
            return b"503 5.5.1 TLS stands already\r\n"
        await self._flush()
        self.tls_context = self._door.tls_context()
        self._buffer.clear()  # what was sent along was sent by whoever sits on the line
        try:
            await super().smtp_STARTTLS("")
        except TLSSetupException as error:
            reason = error.__cause__
            text = tls.reason_of(reason) if isinstance(reason, OSError) else "the client went away"
            logger.info("[%s]: TLS failed: %s", self.reception.client.address, text)
            self.cut()
            raise Over from None
        assert self.transport is not None
        self.reception.secured(tls.describe(self.transport, verified=False))
        return b""

    async def _auth(self, argument: bytes) -> bytes:
        reception = self.reception
        refusal = reception.auth_refusal(argument)
        if refusal is not None:
            reception.errors += 1
            return refusal
        mechanism, _, initial = argument.partition(b" ")
        manners = self._manners
        try:
            name, password = await credentials(mechanism.upper(), initial.strip() or None, self._ask)
            guess = Guess(name, password, reception.client.address)
            if await proven(guess, manners.users, manners.failures, self.loop.time):
                reception.logged_in(name)
                return b"235 2.7.0 Welcome\r\n"
        except Cancelled as cancelled:
            reception.errors += 1
            return cancelled.reply
        except TooManyFailures:
            raise Over(TOO_MANY_FAILURES) from None
        self._login_failures += 1
        if self._login_failures >= LOGIN_FAILURES:
            raise Over(b"421 4.7.0 Too many logins failed\r\n")
        return b"535 5.7.8 The name or the password is wrong\r\n"

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a challenge, return the response."""
        self._out += challenge
        await self._flush()
        while (line := self._line(RESPONSE_OCTETS)) is None:
            self._check_limits()
            await self._more()
        return line

    async def _quit(self, _argument: bytes) -> bytes:
        raise Over(b"221 2.0.0 Goodbye\r\n")


_SLOW: Final[dict[bytes, Callable[[Connection, bytes], Awaitable[bytes]]]] = {
    b"DATA": Connection._data,
    b"BDAT": Connection._bdat,
    b"STARTTLS": Connection._starttls,
    b"AUTH": Connection._auth,
    b"QUIT": Connection._quit,
}
