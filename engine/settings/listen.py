"""What a [listen] table comes to: its `Listen`, or the Fault that names the key to change.

Owns the rules between its keys: nobody relays who isn't named, nobody says a password without TLS. Reads no file and no
secret.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from engine.secrets import Secret
from engine.settings.addresses import IpNetwork, TcpAddress, network, tcp_address
from engine.settings.lines import Place
from engine.settings.login import absolute, one_line, secret_from
from engine.settings.reading import Fault, meant, nearest, read_secret
from engine.settings.shapes import Gateway, Listen
from engine.settings.tables import ListenTable
from engine.settings.values import shown


def listen(table: ListenTable, gateway: Gateway, folder: Path) -> Listen:
    """The [listen] table. Raises Fault."""
    users = {name: _user(name, written, folder) for name, written in table.users.items()}
    _check(table, gateway, has_users=bool(users))
    allow = tuple(_allowed(n, written) for n, written in enumerate(table.allow))
    inbound = tuple(_network(("listen", "inbound", n), written) for n, written in enumerate(table.inbound))
    senders = {
        _sender_key(key, users, allow): tuple(str(pattern) for pattern in patterns)
        for key, patterns in table.senders.items()
    }
    return Listen(
        addresses=_addresses(table),
        allow=allow,
        inbound=inbound,
        senders=MappingProxyType(senders),
        users=MappingProxyType(users),
        tls_cert=absolute(table.tls_cert, folder),
        tls_key=absolute(table.tls_key, folder),
        max_size=table.max_size,
        max_recipients=table.max_recipients,
        connections=table.connections,
        connections_per_address=table.connections_per_address,
        free_space=table.free_space,
    )


def _addresses(table: ListenTable) -> tuple[TcpAddress, ...]:
    place: Place = ("listen", "address")
    if isinstance(table.address, str):
        return (_address(place, table.address),)
    found: list[TcpAddress] = []
    for number, written in enumerate(table.address):
        address = _address((*place, number), written)
        if address in found and address.port:
            raise Fault((*place, number), f"{address.text} stands here twice: leave one out")
        found.append(address)
    return tuple(found)


def _address(place: Place, written: str) -> TcpAddress:
    return meant(place, lambda: tcp_address(written))


def _check(table: ListenTable, gateway: Gateway, *, has_users: bool) -> None:
    if not table.address:
        raise Fault(("listen", "address"), 'is empty: name where to listen, as "127.0.0.1:2500"')
    if (table.tls_cert is None) != (table.tls_key is None):
        missing, given = ("tls_key", "tls_cert") if table.tls_key is None else ("tls_cert", "tls_key")
        raise Fault(("listen", missing), f"is missing: {given} is given, and the two go together")
    if has_users and table.tls_cert is None:
        raise Fault(("listen", "tls_cert"), "is missing: users can log in under TLS only")
    if not table.allow and not table.inbound and not has_users:
        raise Fault(("listen", "allow"), "is empty, and there are no users: nobody could submit")
    if table.inbound and not gateway.domains:
        raise Fault(
            ("listen", "inbound"), "needs gateway.domains: these networks send to our own domains only"
        )
    if table.connections_per_address is not None and table.connections_per_address > table.connections:
        raise Fault(("listen", "connections_per_address"), "is more than connections: at most as much")


def _user(name: str, written: object, folder: Path) -> Secret:
    place: Place = ("listen", "users", name)
    one_line(place, name)
    secret = read_secret(written, place)
    return secret_from(place, secret, f"listen.users.{name}", folder)


def _allowed(index: int, written: str) -> IpNetwork:
    place: Place = ("listen", "allow", index)
    found = _network(place, written)
    if found.prefixlen == 0:
        raise Fault(place, f"{shown(written)} would make an open relay: name the networks that may relay")
    return found


def _network(place: Place, written: str) -> IpNetwork:
    return meant(place, lambda: network(written))


def _sender_key(key: str, users: dict[str, Secret], allow: tuple[IpNetwork, ...]) -> str | IpNetwork:
    """A user of ours, or a network that may relay."""
    place: Place = ("listen", "senders", key)
    if key in users:
        return key
    try:
        found = network(key)
    except ValueError:
        hint = f"; {nearest(key, tuple(users))}" if users else ""
        raise Fault(place, f"{shown(key)} is neither a user nor a network{hint}") from None
    if not any(_within(found, allowed) for allowed in allow):
        raise Fault(place, f"{found} isn't in listen.allow: it may not send at all")
    return found


def _within(inner: IpNetwork, outer: IpNetwork) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
