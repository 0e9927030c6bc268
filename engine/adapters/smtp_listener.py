"""Where we listen for SMTP, and how many may be connected at once.

Owns the connections and the places. Who may relay never finds all places taken by those who may not: strangers
share half of them and have a tenth each, and where no place is left, who has been silent for longest makes room. Going
down, new clients are refused first, and whoever is in a transaction may finish it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from engine.adapters import tls
from engine.adapters.smtp_authentication import Failures
from engine.adapters.smtp_connection import Connection, Manners
from engine.adapters.smtp_listener_access import ListenerAccess, ListenTrouble, named
from engine.core.relaying import IpAddress
from engine.ports import Taking

BACKLOG: Final = 1_024  # connections that the kernel keeps until we come to them
SILENT_SECONDS: Final = 1.0  # who said nothing for so long may have to make room
CUT_SECONDS: Final = 1.0  # for the last words, once the time to finish is over

TOO_MANY: Final = b"421 4.7.0 Too many connections; come again later\r\n"
TOO_MANY_HERE: Final = b"421 4.7.0 Too many connections from your address; come again later\r\n"
TOO_MANY_FAILURES: Final = b"421 4.7.0 Too many logins failed from your address; come again later\r\n"
MADE_ROOM: Final = b"421 4.7.0 Others need the place; come again later\r\n"
STOPPING: Final = b"421 4.3.2 Going down; come again later\r\n"

logger = logging.getLogger("mailgate.listen")


class Listener:
    """All sockets of one [listen]. For one event loop."""

    def __init__(self, access: ListenerAccess, taking: Taking) -> None:
        self._access = access
        self._failures = Failures()
        self._manners = Manners(
            terms=access.terms,
            taking=taking,
            users=access.users,
            failures=self._failures,
            idle_seconds=access.idle_seconds,
        )
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._by_address: Counter[IpAddress] = Counter()
        self._strangers = 0
        self._stopping = False
        self._context: Any = None

    @property
    def ports(self) -> list[int]:
        """The ports that are listened on."""
        return [one.getsockname()[1] for server in self._servers for one in server.sockets]

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on all of them, or on none. They are ours from now on. Raises ListenTrouble."""
        loop = asyncio.get_running_loop()
        try:
            if self._access.certificate is not None:
                self._context = tls.server_context(*self._access.certificate)
            for one in sockets:
                connection = partial(Connection, self, self._manners, loop)
                self._servers.append(await loop.create_server(connection, sock=one, backlog=BACKLOG))
        except (tls.ServerTrouble, OSError) as trouble:
            self._unlisten()
            for one in sockets:
                one.close()
            key = trouble.key if isinstance(trouble, tls.ServerTrouble) else "address"
            raise ListenTrouble(f"listen.{key}: {trouble}") from None
        for name in dict.fromkeys(named(*one.getsockname()[:2]) for one in sockets):
            logger.info("listening on %s", name)

    async def stop(self, seconds: float) -> None:
        """Listen no more; let transactions under way finish, for so long."""
        self._stopping = True
        self._unlisten()
        for connection in tuple(self._connections):
            connection.dismiss(STOPPING)
        for wait_seconds in (seconds, CUT_SECONDS):
            await self._emptied(wait_seconds)
            for connection in tuple(self._connections):
                connection.cut()

    # -- what a connection needs

    def admit(self, connection: Connection) -> bytes | None:
        """Give a new connection a place; returns a reply where there is none."""
        reception = connection.reception
        address, trusted = reception.client.address, reception.kind == "relay"
        refusal = self._refusal(connection, address, trusted=trusted)
        if refusal is not None:
            logger.info("[%s]: %s", address, refusal.decode().strip())
            return refusal
        self._connections.add(connection)
        self._by_address[address] += 1
        self._strangers += not trusted
        return None

    def gone(self, connection: Connection) -> None:
        """A place is free again."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        address = connection.reception.client.address
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        self._strangers -= not self._is_trusted(address)

    def tls_context(self) -> Any:
        """The TLS context; a certificate that was renewed counts at once, one that can't be read leaves the old."""
        assert self._access.certificate is not None
        try:
            self._context = tls.server_context(*self._access.certificate)
        except tls.ServerTrouble as trouble:
            logger.error("listen.%s: %s", trouble.key, trouble)
        return self._context

    # -- places

    def _is_trusted(self, address: IpAddress) -> bool:
        return any(address in network for network in self._access.terms.rules.allow)

    def _refusal(self, connection: Connection, address: IpAddress, *, trusted: bool) -> bytes | None:
        places = self._access.connections
        if self._stopping:
            return STOPPING
        if self._failures.too_many(address, connection.loop.time()) and not trusted:
            return TOO_MANY_FAILURES
        limit = self._access.per_address or (None if trusted else max(1, places // 10))
        if limit is not None and self._by_address[address] >= limit:
            return TOO_MANY_HERE
        strangers_places = places // 2 if self._access.terms.rules.allow else places
        if not trusted and self._strangers >= max(1, strangers_places):
            return TOO_MANY
        if len(self._connections) >= places and not (trusted and self._make_room(connection.loop.time())):
            return TOO_MANY
        return None

    def _make_room(self, now: float) -> bool:
        """Dismiss who has been silent for longest outside a transaction, strangers first; False where nobody was."""
        silent = [c for c in self._connections if c.idle and now - c.heard_at >= SILENT_SECONDS]
        if not silent:
            return False
        chosen = min(silent, key=lambda c: (self._is_trusted(c.reception.client.address), c.heard_at))
        chosen.dismiss(MADE_ROOM)
        self.gone(chosen)
        return True

    # -- the end

    def _unlisten(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _emptied(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._connections and loop.time() < until:
            await asyncio.sleep(0.01)
