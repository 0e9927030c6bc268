"""Looking at a server's certificate and greeting without trusting it, so that a person learns which setting would help.

Nothing is believed, nothing secret is sent, nothing goes on over these connections. Speaks as much POP3 (RFC 2595) or SMTP
(RFC 3207) as it takes to get to TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal

from engine.adapters.tls import client_context

PROBE_SECONDS: Final = 10.0  # a person is waiting; a server that takes longer gives no hint
LINES_LIMIT: Final = 100  # of a greeting or an EHLO reply

Opening = Literal["implicit", "pop3", "smtp"]  # TLS at once, behind STLS, behind STARTTLS

_NO_ANSWER: Final = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)  # time-outs are OSErrors
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def certificate_of(host: str, port: int, opening: Opening) -> str | None:
    """Return the server's certificate as "sha256:<64 hex digits>"; None where it shows none."""
    with suppress(*_NO_ANSWER):
        async with asyncio.timeout(PROBE_SECONDS):
            return await _certificate_of(host, port, opening)
    return None


async def greeting_of(host: str, port: int) -> str | None:
    """Return the first line the server says in the clear; None where it says nothing."""
    with suppress(*_NO_ANSWER):
        async with asyncio.timeout(PROBE_SECONDS), _connected(host, port) as (reader, _):
            line = (await reader.readuntil(b"\n")).decode("ascii", "replace").strip()
            return line if line.isprintable() else None
    return None


async def _certificate_of(host: str, port: int, opening: Opening) -> str | None:
    context = client_context(verify=False, ca_file=None, fingerprint=None)
    if opening == "implicit":
        async with _connected(host, port, context) as (_, writer):
            return _shown(writer)
    async with _connected(host, port) as (reader, writer):
        if opening == "smtp":
            await _reply(reader)
            writer.write(b"EHLO mailgate.invalid\r\n")
            await _reply(reader)
            writer.write(b"STARTTLS\r\n")
            agreed = (await _reply(reader)).startswith(b"220")
        else:
            await reader.readuntil(b"\n")
            writer.write(b"STLS\r\n")
            agreed = (await reader.readuntil(b"\n")).startswith(b"+OK")
        if not agreed:
            return None
        await writer.start_tls(context, server_hostname=str(host))
        return _shown(writer)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """Return the last line of an SMTP reply (RFC 5321 section 4.2.1)."""
    for _ in range(LINES_LIMIT):
        line = await reader.readuntil(b"\n")
        if line[3:4] != b"-":
            return line
    raise ValueError("a reply without end")


def _shown(writer: asyncio.StreamWriter) -> str | None:
    tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    shown = tls.getpeercert(binary_form=True) if tls is not None else None
    return f"sha256:{hashlib.sha256(shown).hexdigest()}" if shown else None


@asynccontextmanager
async def _connected(host: str, port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[_Streams]:
    host = str(host)  # uvloop wants no subclass of it
    hostname = host if context else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=hostname)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
