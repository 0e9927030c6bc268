"""What a [next_hop.…] table comes to: its `NextHopSettings`, or the Fault that names the key to change.

Owns the rules between a next hop's keys, and what [next_hop.mx], direct delivery, can't have. Reads no file and no secret.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from engine.core import direct
from engine.settings.addresses import TcpAddress, tcp_address
from engine.settings.lines import Place
from engine.settings.login import absolute, check_tls, one_line, secret_from
from engine.settings.reading import Fault, meant, patterns, read
from engine.settings.shapes import NextHopSettings
from engine.settings.tables import NextHopTable
from engine.settings.values import Name, kind_of, shown

DNS_PORT = 53
# How servers refuse what their own filter takes for spam: Exchange ("Message rejected as spam by Content Filtering.",
# before 2010 "due to content restrictions"), rules on its SCL, rspamd, amavis. A refusal of the client, such as one that names
# a block list of Spamhaus, must not fit: that is trouble a person has to hear of.
SPAM_REFUSALS = (
    "5?? *as spam*",
    "5?? 5.7.? *content filter*",
    "5?? 5.7.? *content restrictions*",
    "5?? 5.7.? * SCL*",
    "5?? 5.7.? *spam message*",
    "5?? 5.7.? *- spam",
)
# Of one server: what it makes no sense to have with all the servers of the world.
_ONE_SERVERS = {
    "host": "DNS says for each domain which servers take its mail",
    "username": "no password is for every server of the world: name a next hop of its own",
    "password": "no password is for every server of the world: name a next hop of its own",
    "tls_fingerprint": "no certificate is that of every server of the world: name a next hop of its own",
}


def next_hop(written_name: str, written: object, folder: Path) -> NextHopSettings:
    """The next hop of this name in the file. Raises Fault."""
    place: Place = ("next_hop", written_name)
    if not isinstance(written, dict):
        text = f"expected a table, found {kind_of(written)}; write [next_hop.NAME], such as [next_hop.home]"
        raise Fault(place, text)
    name = meant(place, lambda: Name.parse(written_name))
    table = read(written, NextHopTable, place)
    if name == direct.MX:
        _check_direct(place, table)
    elif table.host is None:
        raise Fault((*place, "host"), "is missing")
    elif table.nameservers:
        raise Fault(
            (*place, "nameservers"), "has no meaning here: only [next_hop.mx] asks DNS for mail servers"
        )
    check_tls(place, table, verify_written=table.tls_verify is not False)
    if (table.username is None) != (table.password is None):
        missing, given = ("password", "username") if table.password is None else ("username", "password")
        raise Fault((*place, missing), f"is missing: {given} is given, and the two go together")
    user, secret, whose = table.username, table.password, f"next_hop.{name}: password"
    return NextHopSettings(
        name=name,
        host=table.host or "",
        port=table.port or (465 if table.tls == "implicit" else 25),
        tls=table.tls,
        tls_verify=_verifies(table),
        tls_ca=absolute(table.tls_ca, folder),
        tls_fingerprint=table.tls_fingerprint,
        username=None if user is None else one_line((*place, "username"), user),
        password=None if secret is None else secret_from((*place, "password"), secret, whose, folder),
        connections=table.connections,
        messages_per_connection=table.messages_per_connection,
        max_size=table.max_size,
        on_unknown=table.on_unknown,
        spam_refusals=SPAM_REFUSALS
        if table.spam_refusals is None
        else patterns((*place, "spam_refusals"), table.spam_refusals),
        nameservers=tuple(
            _nameserver((*place, "nameservers", n), w) for n, w in enumerate(table.nameservers)
        ),
    )


def _verifies(table: NextHopTable) -> bool:
    if isinstance(table.tls_verify, bool):
        return table.tls_verify
    # Opportunistic TLS takes what it gets (RFC 7435), unless something says whom to expect.
    expected = table.tls_ca is not None or table.tls_fingerprint is not None
    return table.tls in ("required", "implicit") or expected


def _check_direct(place: Place, table: NextHopTable) -> None:
    """Refuse what direct delivery can't have. Raises Fault."""
    for key, why in _ONE_SERVERS.items():
        if getattr(table, key) is not None:
            raise Fault((*place, key), f"can't be given for direct delivery: {why}")
    if table.tls == "implicit":
        text = "can't be implicit for direct delivery: servers take mail from strangers behind STARTTLS only"
        raise Fault((*place, "tls"), text)


def _nameserver(place: Place, written: str) -> TcpAddress:
    return meant(place, lambda: _address(written))


def _address(written: str) -> TcpAddress:
    """An IP address, with or without a port. Raises ValueError."""
    try:
        return TcpAddress(host=str(ipaddress.ip_address(written)), port=DNS_PORT)
    except ValueError:
        pass
    try:
        address = tcp_address(written)
        return TcpAddress(host=str(ipaddress.ip_address(address.host)), port=address.port)
    except ValueError:
        text = (
            f'{shown(written)} is not an IP address: write it as in "192.0.2.1", "192.0.2.1:53" or "[::1]:53"'
        )
        raise ValueError(text) from None
