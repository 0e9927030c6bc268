"""One connection to a scanner, for one question: opened for it, closed after it, however that went.

So an answer can't be taken for that to another message, and a call that is cancelled leaves nothing behind. Reads while it
writes: a scanner may have its say before it heard everything, and a broken pipe doesn't hide what it said before.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import chain
from typing import Final, Literal

from engine.ports import ScannerTrouble
from engine.settings.addresses import SocketAddress, UnixAddress
from engine.wire.rubbish import Rubbish

READ_OCTETS: Final = 64 * 1024

Place = tuple[socket.AddressFamily, str | tuple[str, int]]


class ScannerLine:
    """What a scanner listens at."""

    def __init__(self, address: SocketAddress) -> None:
        self._address = address
        self._known = _known(address)

    @property
    def where(self) -> str:
        """The address, as the configuration writes it."""
        return self._address.text

    async def converse(
        self,
        pieces: Iterable[bytes],
        feed: Callable[[bytes], bool],
        *,
        blame: Literal["scanner", "message"] = "message",
    ) -> None:
        """Connect, send the pieces, and feed what comes back until it says True. Raises ScannerTrouble.

        It is fed b"" at the end of the connection. Trouble before anything was sent is always the scanner's;
        after that it has the `blame` given.
        """
        there = await self._connected()
        sending: asyncio.Future[None] | None = None
        try:
            rest = iter(pieces)
            first, second = next(rest), next(rest, None)
            if second is None:  # it fits into the system's buffers: no need to read meanwhile
                await self._send(there, (first,))
            else:
                sending = asyncio.ensure_future(self._send(there, chain((first, second), rest)))
            await self._receive(there, feed, blame)
        except Rubbish as rubbish:
            raise ScannerTrouble(f"{self.where} answered rubbish: {rubbish}", blame) from None
        finally:
            try:
                if sending is not None:
                    await _ended(sending)
            finally:
                there.close()

    async def _connected(self) -> socket.socket:
        """A socket that is connected. Raises ScannerTrouble."""
        try:
            failure: OSError | None = None
            for family, address in self._known or await _looked_up(self._address):
                try:
                    return await _connect(family, address)
                except OSError as refused:
                    failure = failure or refused
            raise failure or OSError("the name has no address")
        except OSError as refused:
            text = f"can't connect to {self.where}: {_reason(refused)}"
            raise ScannerTrouble(text, "scanner") from None

    async def _send(self, there: socket.socket, pieces: Iterable[bytes]) -> None:
        """Send it all, or as much as the scanner takes: what it says tells what became of it."""
        loop = asyncio.get_running_loop()
        try:
            for piece in pieces:
                sent = _at_once(there, piece)
                if sent < len(piece):
                    await loop.sock_sendall(there, memoryview(piece)[sent:])
        except OSError:
            return

    async def _receive(
        self, there: socket.socket, feed: Callable[[bytes], bool], blame: Literal["scanner", "message"]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                octets = await loop.sock_recv(there, READ_OCTETS)
            except OSError as broken:
                text = f"{self.where} broke the connection: {_reason(broken)}"
                raise ScannerTrouble(text, blame) from None
            if feed(octets):
                return
            if not octets:
                raise ScannerTrouble(f"{self.where} closed the connection before its answer was whole", blame)


def _known(address: SocketAddress) -> list[Place]:
    """Where to connect to, as far as that is known without asking anybody."""
    if isinstance(address, UnixAddress):
        return [(socket.AF_UNIX, str(address.socket_path))]
    try:
        found = ip_address(address.host)
    except ValueError:
        return []
    # As octets: a text would be taken for a name, and coded as one, each time.
    return [(socket.AF_INET if found.version == 4 else socket.AF_INET6, (address.host, address.port))]


async def _looked_up(address: SocketAddress) -> list[Place]:
    """What to connect to where the host is a name, in order."""
    assert not isinstance(address, UnixAddress)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [(family, (str(place[0]), address.port)) for family, _, _, _, place in found]


def _at_once(there: socket.socket, octets: bytes) -> int:
    """Send what the system's buffers take; returns how much that was. Mostly it is all, and there is nothing to wait for."""
    try:
        return there.send(octets)
    except BlockingIOError:
        return 0


async def _connect(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    there = socket.socket(family, socket.SOCK_STREAM)
    try:
        there.setblocking(False)
        # As octets: a text would be taken for a name, and coded as one.
        place = address if isinstance(address, str) else (address[0].encode(), address[1])
        error = there.connect_ex(place)
        if error == errno.EINPROGRESS:
            # On this machine it is done by now, and waiting for news of that costs more than the rest.
            error = there.connect_ex(place)
        if error in (errno.EINPROGRESS, errno.EALREADY):
            await asyncio.get_running_loop().sock_connect(there, address)
        elif error not in (0, errno.EISCONN):
            raise OSError(error, os.strerror(error))
    except BaseException:
        there.close()
        raise
    return there


def _reason(error: OSError) -> str:
    """Why, without the address that asyncio puts into it; look-ups have numbers below 0."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


async def _ended(sending: asyncio.Future[None]) -> None:
    """Stop sending; the socket may be closed once nobody waits for it."""
    sending.cancel()
    await asyncio.wait((sending,))
