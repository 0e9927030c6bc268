"""Where a webhook's events go: HTTP over TCP or TLS, on connections that are kept for the next event.

Goes straight to the address of the configuration: through no proxy, and after no redirection. Each request has its time,
from looking up the name to the status of the answer.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from engine.adapters.tls import TlsTrouble, client_context, reason_of
from engine.core.webhook import Answer, Headers
from engine.settings.shapes import WebhookSettings
from engine.wire.posting import Posting
from engine.wire.rubbish import Rubbish, shown

READ_OCTETS: Final = 64 * 1024
REST_SECONDS: Final = 1.0  # for what comes behind the status: it only decides whether the connection is kept


class WebhookTrouble(Exception):
    """The receiver gave no answer. One line for a person."""


class _Closed(OSError):
    """The connection came to an end, and no answer before."""


@dataclass(slots=True)
class _Line:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    posting: Posting = field(default_factory=Posting)

    def close(self) -> None:
        self.writer.transport.abort()

    async def hear(self) -> None:
        """Take what comes next."""
        octets = await self.reader.read(READ_OCTETS)
        if not octets and not self.posting.answered:
            raise _Closed
        self.posting.feed(octets)


class WebhookSender:
    """Sends to one webhook, from as many tasks at once as like."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._url = settings.url
        self._ca = settings.tls_ca
        self._seconds = settings.timeout_seconds
        self._idle: list[_Line] = []

    async def post(self, headers: Headers, octets: bytes) -> Answer:
        """Send one body; returns what was answered. Raises WebhookTrouble where nothing was."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(headers, octets)
        except TimeoutError:
            raise WebhookTrouble(f"{self._url.where} gave no answer within {self._seconds:g} s") from None
        except Rubbish as rubbish:
            raise WebhookTrouble(f"{self._url.where} answered rubbish: {rubbish}") from None
        except _Closed:
            raise WebhookTrouble(f"{self._url.where} closed the connection without an answer") from None
        except OSError as broken:
            raise WebhookTrouble(f"{self._url.where} broke the connection: {_reason(broken)}") from None

    async def close(self) -> None:
        """Close what is kept open."""
        while self._idle:
            self._idle.pop().close()

    async def _post(self, headers: Headers, octets: bytes) -> Answer:
        while self._idle:
            line = self._idle.pop()
            try:
                return await self._exchange(line, headers, octets)
            except OSError:
                if line.posting.heard:
                    raise
                # It was closed while nobody used it: that is no answer to this request.
        return await self._exchange(await self._connect(), headers, octets)

    async def _connect(self) -> _Line:
        url = self._url
        try:
            ca = None if self._ca is None else str(self._ca)
            tls = client_context(verify=True, ca_file=ca, fingerprint=None) if url.tls else None
            return _Line(*await asyncio.open_connection(url.host, url.port, ssl=tls))
        except TimeoutError:
            raise
        except OSError as refused:
            raise WebhookTrouble(f"can't connect to {url.where}: {_reason(refused)}") from None
        except TlsTrouble as trouble:
            raise WebhookTrouble(str(trouble)) from None

    async def _exchange(self, line: _Line, headers: Headers, octets: bytes) -> Answer:
        posting = line.posting
        try:
            line.writer.write(posting.post(self._url.target, self._url.host_header, headers, octets))
            await line.writer.drain()
            while not posting.answered:
                await line.hear()
            with suppress(OSError, Rubbish):
                async with asyncio.timeout(REST_SECONDS):
                    while not posting.over:
                        await line.hear()
        except BaseException:
            line.close()
            raise
        if posting.reusable:
            self._idle.append(line)
        else:
            line.close()
        after = posting.retry_after
        return Answer(
            status=posting.status,
            text=shown(posting.beginning),
            retry_after=None if after is None else timedelta(seconds=after),
        )


def _reason(error: OSError) -> str:
    """Why, without the address that asyncio puts into it; look-ups have numbers below 0."""
    if error.errno and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno).lower()
    return reason_of(error)
