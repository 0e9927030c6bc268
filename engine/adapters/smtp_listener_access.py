"""Where to listen, for whom, and what keeps us from it. And the sockets, which are bound before anything else is done."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.adapters.smtp_reception import Terms

IDLE_SECONDS: Final = 300.0  # RFC 5321 section 4.5.3.2.7
IN_USE_SECONDS: Final = 2.0  # a gateway that was killed lets go of its addresses a moment later
LOOK_SECONDS: Final = 0.05


class ListenTrouble(Exception):
    """Listening is not possible as configured. One line for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerAccess:
    """Where to listen, for whom.

    `variables` of the environment are what it takes to read the passwords of the users, None for all of them.
    `per_address` None means all places for who may relay, and a tenth for others.
    """

    addresses: Sequence[tuple[str, int]]
    terms: Terms
    users: Mapping[str, Callable[[], Awaitable[str]]] = field(default_factory=dict)
    variables: tuple[str, ...] | None = ()
    certificate: tuple[str, str] | None = None  # files: the certificate with its chain, its key
    connections: int = 100
    per_address: int | None = None
    idle_seconds: float = IDLE_SECONDS


async def bound(addresses: Sequence[tuple[str, int]]) -> list[socket.socket]:
    """Return sockets that have all the addresses, not yet listening. Raises ListenTrouble, and has none of them then."""
    sockets: list[socket.socket] = []
    for host, port in addresses:
        try:
            for family, kind, protocol, _, address in await _meant(host, port):
                sockets.append(socket.socket(family, kind, protocol))
                await _bind(sockets[-1], address)
        except OSError as error:
            for one in sockets:
                one.close()
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise ListenTrouble(f"listen.address: can't listen on {named(host, port)}: {reason}") from None
    return sockets


def named(host: str, port: int) -> str:
    """An address as it is written: "127.0.0.1:2500" or "[::1]:2500"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _meant(host: str, port: int) -> Sequence[tuple[int, int, int, str, tuple[object, ...]]]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


async def _bind(one: socket.socket, address: tuple[object, ...]) -> None:
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    loop = asyncio.get_running_loop()
    until = loop.time() + IN_USE_SECONDS
    while True:
        try:
            one.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or loop.time() >= until:
                raise
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return
