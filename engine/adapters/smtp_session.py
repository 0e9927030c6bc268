"""Setting up an SMTP session: connect, greeting, EHLO, STARTTLS, AUTH; the result is an `SmtpLine`.

aiosmtplib speaks up to there; then the transport is handed to our own protocol, which can pipeline and
pairs replies with commands by itself. The taking over happens in one step of the event loop, with no
command outstanding; if aiosmtplib holds octets that belong to no command, the session is given up. Never
sends a password in clear text unless `tls = "none"` says so, nor anything to a server that is not the one that is expected,
where the configuration says whom to expect.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, cast

import aiosmtplib

from engine.adapters.smtp_access import NextHopAccess
from engine.adapters.smtp_client import Client
from engine.adapters.smtp_line import Peer, SmtpLine
from engine.adapters.tls import TlsTrouble, check_fingerprint, client_context, describe, reason_of
from engine.ports import Reply
from engine.secrets import SecretError, concealed
from engine.wire.smtp_reply import Reply as WireReply
from engine.wire.smtp_reply import visible

# A name with more addresses than this is balanced by DNS; the rest would only lengthen the wait.
MOST_ADDRESSES = 4


class NotOpened(Exception):
    """No session could be had: the reply is what the server said, and when; or what broke, where it said nothing."""

    def __init__(self, reply: Reply, *, address: str = "") -> None:
        super().__init__(reply.said)
        self.reply = reply
        self.address = address


class _StarttlsFailed(NotOpened):
    """STARTTLS was offered and didn't work out on this connection; `tls` is what there is instead."""

    def __init__(self, reply: Reply, *, address: str, tls: str) -> None:
        super().__init__(reply, address=address)
        self.tls = tls


async def open_line(access: NextHopAccess, hello: str) -> SmtpLine:
    """A session ready for mail transactions. Raises NotOpened."""
    context = await _context(access)
    try:
        return await _Setup(access, hello, context).run(starttls=access.tls in ("required", "opportunistic"))
    except _StarttlsFailed as failed:
        if not access.takes_anybody:
            raise
        # What STARTTLS left behind can't be trusted, so the clear text starts on a new connection (RFC 7435).
        setup = _Setup(access, hello, context)
        setup.tls = failed.tls
        return await setup.run(starttls=False)


async def _context(access: NextHopAccess) -> ssl.SSLContext | None:
    if access.tls == "none":
        return None
    try:
        # The first time the authorities are read, which takes tens of milliseconds.
        return await asyncio.to_thread(
            client_context,
            verify=access.tls_verify,
            ca_file=access.tls_ca,
            fingerprint=access.tls_fingerprint,
        )
    except TlsTrouble as trouble:
        raise NotOpened(_silence(f"4.3.5 {trouble}")) from trouble


class _Setup:
    """One attempt at one session."""

    def __init__(self, access: NextHopAccess, hello: str, context: ssl.SSLContext | None) -> None:
        self._access = access
        self._hello = hello
        self._context = context
        self._where = f"{access.host}:{access.port}"
        self._address = ""
        self.tls = "none"

    async def run(self, *, starttls: bool) -> SmtpLine:
        sock = await self._connect()
        client = Client(
            hostname=self._access.host,
            sock=sock,
            local_hostname=self._hello,
            timeout=self._access.timeouts.greeting_seconds,
            use_tls=self._access.tls == "implicit",
            start_tls=False,
            tls_context=self._context,
        )
        try:
            return await self._converse(client, starttls=starttls)
        except NotOpened:
            _abandon(client, sock)
            raise
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            _abandon(client, sock)
            greeting = isinstance(error, aiosmtplib.SMTPConnectResponseError)
            when = "the greeting of" if greeting else "the reply to EHLO of"
            raise self._refused(error, when, "4.4.2 no session with") from error
        except BaseException:
            _abandon(client, sock)
            raise

    async def _converse(self, client: aiosmtplib.SMTP, *, starttls: bool) -> SmtpLine:
        greeting = await client.connect()
        client.timeout = self._access.timeouts.command_seconds
        if self._access.tls == "implicit":
            self._check_tls(client)
        await self._greet(client)
        if starttls:
            await self._starttls(client)
        if self._access.username is not None:
            await self._authenticate(client, self._access.username)
        return self._take_over(client, visible(greeting.message))

    async def _connect(self) -> socket.socket:
        host, port, loop = self._access.host, self._access.port, asyncio.get_running_loop()
        seconds = self._access.timeouts.connect_seconds
        troubles = []
        for family, address in (await self._addresses())[:MOST_ADDRESSES]:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(seconds):
                    await loop.sock_connect(sock, address)
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                troubles.append(f"{host}[{address[0]}]:{port}: {_reason(error)}")
                continue
            self._where = f"{host}[{address[0]}]:{port}"
            self._address = f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"
            return sock
        raise NotOpened(_silence("4.4.1 connect to " + "; ".join(troubles or [f"{host}:{port}: no address"])))

    async def _addresses(self) -> list[tuple[int, tuple[Any, ...]]]:
        """The host's addresses with their families, in the order to try them."""
        host, port = self._access.host, self._access.port
        if self._access.addresses:
            return [
                (socket.AF_INET6 if ":" in a else socket.AF_INET, (a, port)) for a in self._access.addresses
            ]
        try:
            async with asyncio.timeout(self._access.timeouts.connect_seconds):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NotOpened(_silence(f"4.4.3 look up {host}: {_reason(error)}")) from error
        return [(family, address) for family, _, _, _, address in found]

    async def _greet(self, client: aiosmtplib.SMTP) -> None:
        """EHLO, and HELO for a server that doesn't know EHLO (RFC 5321 section 3.2)."""
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as refusal:
            if not 500 <= refusal.code < 600 or not client.is_connected:
                raise
            await client.helo()

    async def _starttls(self, client: aiosmtplib.SMTP) -> None:
        if not client.supports_extension("starttls"):
            if self._access.takes_anybody:
                return
            raise self._not_opened("4.7.0 STARTTLS is required, but not offered by")
        try:
            await client.starttls(server_hostname=self._access.host)
            # With TLS 1.3 a server that refuses the handshake is heard of only now.
            await client.ehlo()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            what = "STARTTLS failed with"
            tls = visible(f"none ({what} {self._where}: {_reason(error)})")
            reply = self._refused(error, what, f"4.7.0 {what}").reply
            raise _StarttlsFailed(reply, address=self._address, tls=tls) from error
        self._check_tls(client)

    def _check_tls(self, client: aiosmtplib.SMTP) -> None:
        """Compare the fingerprint, if one is pinned, and note the facts. The chain was checked by ssl."""
        transport = client.transport
        if transport is None:
            raise self._not_opened("4.4.2 connection closed during set-up by")
        assert self._context is not None
        verified = self._context.verify_mode == ssl.CERT_REQUIRED
        if self._access.tls_fingerprint is not None:
            try:
                check_fingerprint(transport, self._access.tls_fingerprint)
                verified = True
            except TlsTrouble as trouble:
                raise self._not_opened("4.7.5 certificate refused of", str(trouble)) from trouble
        self.tls = describe(transport, verified=verified)

    async def _authenticate(self, client: aiosmtplib.SMTP, username: str) -> None:
        if self.tls.startswith("none") and self._access.tls != "none":
            raise self._not_opened(
                "4.7.0 authentication failed: no TLS, and without it no password is sent to",
                self.tls.removeprefix("none").strip(" ()")
                or 'offer STARTTLS there, or allow clear text with tls = "none"',
            )
        try:
            password = await self._access.secret() if self._access.secret is not None else ""
        except SecretError as error:
            raise self._not_opened("4.7.0 authentication failed: no password for", str(error)) from None
        except Exception as error:  # noqa: BLE001 - whatever failed there, only its kind is safe to tell
            reason = type(error).__name__
            raise self._not_opened("4.7.0 authentication failed: no password for", reason) from None
        try:
            await client.login(username, password)
        except ValueError as error:
            # It may quote what it could not encode.
            reason = type(error).__name__
            raise self._not_opened(f"4.7.0 authentication as {username} failed with", reason) from None
        except aiosmtplib.SMTPException as error:
            error.message = concealed(error.message, username, password)
            what = f"authentication as {username} failed with"
            raise self._refused(error, what, f"4.7.0 {what}") from None

    def _take_over(self, client: aiosmtplib.SMTP, banner: str) -> SmtpLine:
        protocol = client.protocol
        transport = protocol.transport if protocol is not None else None
        if transport is None or transport.is_closing():
            raise self._not_opened("4.4.2 connection closed during set-up by")
        # The one look behind aiosmtplib's public face: octets that no command of ours asked for.
        if getattr(protocol, "_buffer", b""):
            raise self._not_opened("4.5.0 a reply without a command during set-up from")
        ehlo = client.last_ehlo_response
        extensions = _extensions(ehlo.message) if ehlo is not None else ()
        peer = Peer(
            where=self._where,
            address=self._address,
            tls=self.tls,
            banner=banner,
            extensions=extensions,
            offers=frozenset(line.partition(" ")[0] for line in extensions),
        )
        return SmtpLine(cast(asyncio.Transport, transport), peer, self._access.timeouts)

    def _not_opened(self, text: str, reason: str = "") -> NotOpened:
        text = f"{text} {self._where}" + (f": {reason}" if reason else "")
        return NotOpened(_silence(text), address=self._address)

    def _refused(self, error: Exception, when: str, otherwise: str) -> NotOpened:
        """What the server said, with `when` in front of who it is; `otherwise` where it said nothing that is a no."""
        if not isinstance(error, aiosmtplib.SMTPResponseException) or not 400 <= error.code < 600:
            return self._not_opened(otherwise, _reason(error))
        said = WireReply(error.code, visible(_one_line(error.message)))
        text = f"{said.text} ({visible(when)} {self._where})".lstrip()
        return NotOpened(Reply(said.code, text, said.enhanced, "next-hop"), address=self._address)


def _silence(text: str) -> Reply:
    """What stands in place of a reply; the text begins with an enhanced status code (RFC 3463)."""
    return Reply(None, visible(text), text.partition(" ")[0], "next-hop")


def _abandon(client: aiosmtplib.SMTP, sock: socket.socket) -> None:
    client.close()
    sock.close()


def _extensions(ehlo: str) -> tuple[str, ...]:
    """The lines of an EHLO reply but the first, keyword in upper case."""
    lines = (visible(line).strip().partition(" ") for line in ehlo.split("\n")[1:])
    return tuple(" ".join((keyword.upper(), rest)).strip() for keyword, _, rest in lines if keyword)


def _one_line(message: str) -> str:
    return message.replace("\n", " / ")


def _reason(error: BaseException) -> str:
    """What went wrong, in few words. aiosmtplib wraps the cause where it connects."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {_one_line(error.message)}"
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if isinstance(error, aiosmtplib.SMTPException):
        return error.message
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError):
        return reason_of(error)
    return str(error) or type(error).__name__
