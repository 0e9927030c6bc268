"""Where to listen or connect, and which networks are meant, as the configuration writes it.

The text that means none of it is a ValueError whose message says how to write it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from engine.settings.values import Host, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """Where to listen or connect, by TCP. Port 0 lets the machine choose."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """As it is written: "127.0.0.1:2500" or "[::1]:2500"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """A socket in the file system."""

    socket_path: Path

    @property
    def text(self) -> str:
        """As it is written, the path absolute: "unix:/run/clamav/clamd.ctl"."""
        return f"unix:{self.socket_path}"


SocketAddress = TcpAddress | UnixAddress


def tcp_address(text: str) -> TcpAddress:
    """Read "host:port" or "[ipv6]:port". Raises ValueError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bracketed = bare != host
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or not host or bracketed != (":" in bare):
        raise ValueError(f'{shown(text)} is not an address: write it as in "127.0.0.1:2500" or "[::1]:2500"')
    return TcpAddress(host=Host.parse(bare), port=int(port))


def socket_address(text: str, folder: Path) -> SocketAddress:
    """Read "unix:/path" (relative to `folder`) or "host:port". Raises ValueError."""
    if not text.startswith("unix:"):
        address = tcp_address(text)
        if address.port == 0:
            raise ValueError(f"{shown(text)} can't be connected to: there is no port 0")
        return address
    if text == "unix:" or "\0" in text:
        raise ValueError(f'{shown(text)} lacks a path: write it as in "unix:/run/clamav/clamd.ctl"')
    return UnixAddress(socket_path=folder / text.removeprefix("unix:"))


IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> IpNetwork:
    """Read a network such as "192.168.1.0/24" or a single address. Raises ValueError."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{shown(text)} is not a network: write it as in "192.168.1.0/24"') from None
    if "/" in text and found.network_address != ipaddress.ip_address(text.split("/")[0]):
        raise ValueError(f'{shown(text)} has bits beyond its mask: write "{found}"')
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpUrl:
    """Where requests go by HTTP. `target` is path and query, which may hold a token: it is for the request alone."""

    tls: bool
    host: str
    port: int
    target: str = field(repr=False)

    @property
    def where(self) -> str:
        """Host and port, for the log."""
        return TcpAddress(host=self.host, port=self.port).text

    @property
    def host_header(self) -> str:
        """The host, and the port where it is not the usual one (RFC 9110 section 7.2)."""
        bare = f"[{self.host}]" if ":" in self.host else self.host
        return bare if self.port == (443 if self.tls else 80) else f"{bare}:{self.port}"

    @property
    def text(self) -> str:
        """As it is written, without the target."""
        return f"http{'s' if self.tls else ''}://{self.host_header}"


def http_url(text: str) -> HttpUrl:
    """Read "https://host/path". Raises ValueError, which never shows what may be a password."""
    expected = 'must be written as in "https://hooks.example.com/mail"'
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"{expected}: printable ASCII without spaces")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(expected)
    if "@" in parts.netloc:
        raise ValueError("holds a user name: requests are signed, and no password goes with them")
    if parts.fragment:
        raise ValueError("holds a '#': what is behind it is never sent")
    query = f"?{parts.query}" if parts.query else ""
    tls = parts.scheme == "https"
    return HttpUrl(
        tls=tls,
        host=Host.parse(host),
        port=port or (443 if tls else 80),
        target=(parts.path or "/") + query,
    )
