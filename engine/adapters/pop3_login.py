"""From a fresh connection to the TRANSACTION phase: greeting, CAPA, STLS, login.

Owns the order of these steps, and that no secret leaves before TLS stands where TLS is asked for (RFC 2595,
RFC 8314). Capabilities are asked for in each state and again behind STLS (RFC 2449 section 5). The secret
is asked for once for each login, after TLS stands, and kept nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import ssl

from engine.adapters import pop3_trouble
from engine.adapters.pop3_access import MailboxAccess
from engine.adapters.pop3_connection import CLOSE_SECONDS, Pop3Connection
from engine.adapters.tls import TlsTrouble, check_fingerprint, client_context, reason_of
from engine.ports import SourceTrouble
from engine.wire import pop3_commands, sasl
from engine.wire.pop3_commands import BadCommand, Command
from engine.wire.pop3_replies import Broken, Challenged, Greeted, Replied, text_of


async def connect(access: MailboxAccess) -> Pop3Connection:
    """Connect, with TLS at once where it is implicit. Raises SourceTrouble."""
    implicit = access.tls == "implicit"
    context = _context(access) if implicit else None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(access.connect_seconds):
            transport, connection = await loop.create_connection(
                lambda: Pop3Connection(access),
                access.host,
                access.port,
                ssl=context,
                server_hostname=access.host if implicit else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if implicit else None,
            )
    except TimeoutError:
        text = f"no connection to {access.host} port {access.port} within {access.connect_seconds:g} s"
        raise SourceTrouble("connect", text) from None
    except ssl.SSLError as error:
        raise _tls_failure(access, error) from error
    except UnicodeError as error:
        raise SourceTrouble("connect", f"{access.host} is no name that can be looked up") from error
    except OSError as error:
        text = f"cannot connect to {access.host} port {access.port}: {reason_of(error)}"
        raise SourceTrouble("connect", text) from error
    if implicit:
        _check_pin(access, connection, transport)
    return connection


async def greet(connection: Pop3Connection) -> Greeted:
    """Wait for the greeting, and ask what the server can do. Raises SourceTrouble."""
    greeted = await connection.next()
    if isinstance(greeted, Broken):
        raise pop3_trouble.of_broken(greeted)
    assert isinstance(greeted, Greeted), "nothing comes before the greeting"
    if not greeted.ok:
        raise pop3_trouble.of_greeting(greeted)
    await connection.ask(pop3_commands.CAPA)  # the link keeps the answer; -ERR is a server without CAPA
    return greeted


async def start_tls(connection: Pop3Connection, access: MailboxAccess) -> None:
    """STLS (RFC 2595 section 4), and CAPA again. Raises SourceTrouble; nothing goes on in the clear."""
    capabilities = connection.link.capabilities
    if capabilities and "STLS" not in capabilities:
        raise SourceTrouble("tls", "the server does not offer STLS, and nothing is sent without TLS")
    reply = await connection.ask(pop3_commands.STLS)
    assert isinstance(reply, Replied), "only AUTH has challenges"
    if not reply.ok:
        raise SourceTrouble("tls", f"the server refused STLS: {text_of(reply.line)}")
    await _handshake(connection, access)
    await connection.ask(pop3_commands.CAPA)


async def log_in(connection: Pop3Connection, access: MailboxAccess, greeted: Greeted) -> None:
    """Log in as configured, and ask for capabilities. Raises SourceTrouble; never shows a secret."""
    secret = await access.secret()
    try:
        match access.auth:
            case "xoauth2":
                await _log_in_by_sasl(connection, sasl.xoauth2(access.username, secret), secret)
            case "plain":
                await _log_in_by_sasl(connection, sasl.plain(access.username, secret), secret)
            case "auto" if _offers_plain(connection):
                await _log_in_by_sasl(connection, sasl.plain(access.username, secret), secret)
            case "apop":
                await _log_in_by_apop(connection, access.username, secret, greeted.timestamp)
            case "user" | "auto":
                commands = (pop3_commands.user(access.username), pop3_commands.password(secret))
                await _log_in_by(connection, commands, secret)
    except BadCommand as error:
        raise SourceTrouble("auth", str(error), permanent=True) from None
    await connection.ask(pop3_commands.CAPA)


def _offers_plain(connection: Pop3Connection) -> bool:
    """Whether SASL PLAIN is offered behind TLS; the initial response needs no second round trip as USER
    does.
    """
    behind_tls = connection.transport.get_extra_info("ssl_object") is not None
    mechanisms = connection.link.capabilities.get("SASL", ())
    return behind_tls and any(mechanism.upper() == "PLAIN" for mechanism in mechanisms)


async def _log_in_by(connection: Pop3Connection, commands: tuple[Command, ...], secret: str) -> None:
    for command in commands:
        reply = await connection.ask(command)
        assert isinstance(reply, Replied), "only AUTH has challenges"
        if not reply.ok:
            raise pop3_trouble.of_login(reply, connection.link.capabilities, (secret,))


async def _log_in_by_apop(
    connection: Pop3Connection, username: str, secret: str, timestamp: bytes | None
) -> None:
    if timestamp is None:
        text = "the server offers no APOP: there is no timestamp in its greeting"
        raise SourceTrouble("auth", text, permanent=True)
    await _log_in_by(connection, (pop3_commands.apop(username, secret, timestamp),), secret)


async def _log_in_by_sasl(connection: Pop3Connection, exchange: sasl.Exchange, secret: str) -> None:
    """AUTH, and an answer to each challenge (RFC 5034 section 4). The exchange cancels what it does not
    foresee.
    """
    happening = await connection.ask(exchange.command)
    sent = [secret, exchange.command.arguments.decode("ascii").partition(" ")[2]]
    while isinstance(happening, Challenged):
        response = exchange.answer(happening.octets)
        sent.append(base64.b64encode(response or b"").decode("ascii"))
        connection.write(connection.link.respond(response))
        if response is None:
            happening = await connection.answered()
            break
        happening = await connection.answered()
    if isinstance(happening, Challenged):
        raise SourceTrouble("protocol", "the server goes on with challenges after the login was cancelled")
    if happening.ok:
        return
    trouble = pop3_trouble.of_login(happening, connection.link.capabilities, tuple(sent))
    if exchange.complaint:
        explained = pop3_trouble.concealed(exchange.complaint, tuple(sent))
        raise SourceTrouble(trouble.kind, f"{trouble.text} ({explained})", permanent=trouble.permanent)
    raise trouble


async def _handshake(connection: Pop3Connection, access: MailboxAccess) -> None:
    context = _context(access)
    loop = asyncio.get_running_loop()
    if connection.broken is not None:  # octets in the clear came in behind the +OK
        raise pop3_trouble.of_broken(connection.broken)
    try:
        async with asyncio.timeout(access.connect_seconds):
            transport = await loop.start_tls(
                connection.transport,
                connection,
                context,
                server_hostname=access.host,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
    except TimeoutError:
        text = f"no TLS handshake within {access.connect_seconds:g} s"
        raise SourceTrouble("tls", text) from None
    except OSError as error:
        raise _tls_failure(access, error) from error
    if transport is None:  # the connection was lost meanwhile
        raise SourceTrouble("tls", "the connection was lost in the TLS handshake")
    connection.secured(transport)
    _check_pin(access, connection, transport)


def _context(access: MailboxAccess) -> ssl.SSLContext:
    try:
        return client_context(
            verify=access.tls_verify, ca_file=access.tls_ca, fingerprint=access.tls_fingerprint
        )
    except TlsTrouble as error:
        raise SourceTrouble("tls", str(error), permanent=True) from error


def _check_pin(access: MailboxAccess, connection: Pop3Connection, transport: asyncio.Transport) -> None:
    if access.tls_fingerprint is None:
        return
    try:
        check_fingerprint(transport, access.tls_fingerprint)
    except TlsTrouble as error:
        connection.abort()
        raise SourceTrouble("tls", str(error), permanent=True) from error


def _tls_failure(access: MailboxAccess, error: OSError) -> SourceTrouble:
    """A failed handshake; a certificate that is not trusted needs a person."""
    hint = ""
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        hint = f" (is port {access.port} one for TLS from the first octet?)"
    permanent = isinstance(error, ssl.SSLCertVerificationError)
    text = f"no TLS with {access.host} port {access.port}: {reason_of(error)}{hint}"
    return SourceTrouble("tls", text, permanent=permanent)
