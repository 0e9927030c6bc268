"""rspamd's normal worker, by HTTP over TCP or a unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, Literal

from engine.adapters.scanner_line import ScannerLine
from engine.core import headers
from engine.core.client_ip import helo
from engine.core.verdict import REJECT
from engine.ports import Answered, Mail, ScannerTrouble
from engine.settings.addresses import SocketAddress, TcpAddress
from engine.wire import rspamd
from engine.wire.rubbish import Rubbish, shown

# The actions that mean spam. The others let the message pass, or ask for another try, which is for SMTP servers.
SPAM: Final = frozenset({"add header", "rewrite subject", REJECT})
NO_VERDICT: Final = "no action"
# What another service at the address, a missing right or an overload are answered with. No message is to blame.
OWN_TROUBLE: Final = frozenset({401, 403, 404, 405, 429, 502, 503})


class RspamdScanner:
    """One rspamd. Its verdicts are clean and spam, with a score; `signature` is the action where that is to reject."""

    def __init__(self, name: str, address: SocketAddress) -> None:
        self.name = name
        self._line = ScannerLine(address)
        self._host = address.text if isinstance(address, TcpAddress) else "localhost"

    async def scan(self, mail: Mail) -> Answered:
        """Ask about one message. Raises ScannerTrouble."""
        exchange = rspamd.Exchange()
        request = exchange.post("/checkv2", self._host, tuple(_headers(mail)), mail.octets)
        await self._line.converse(request, exchange.feed)
        self._check(exchange, "message")
        try:
            found = rspamd.checked(exchange.body)
        except Rubbish as rubbish:
            raise ScannerTrouble(f"{self._line.where} answered rubbish: {rubbish}", "message") from None
        skipped = " (skipped)" if found.is_skipped and found.action == NO_VERDICT else ""
        return Answered(
            verdict="spam" if found.action in SPAM else "clean",
            signature=REJECT if found.action == REJECT else None,
            score=found.score,
            threshold=found.required_score,
            symbols=found.names,
            engine=exchange.server,
            detail=f"action: {found.action}{skipped}",
        )

    async def ping(self) -> None:
        """Return if it is well. Raises ScannerTrouble."""
        await self._got("/ping")

    async def version(self) -> str:
        """Return what it calls itself. Raises ScannerTrouble."""
        return (await self._got("/ping")).server or "rspamd"

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _got(self, target: str) -> rspamd.Exchange:
        exchange = rspamd.Exchange()
        await self._line.converse([exchange.get(target, self._host)], exchange.feed, blame="scanner")
        self._check(exchange, "scanner")
        if exchange.body.strip() != b"pong":
            raise ScannerTrouble(f"{self._line.where} is no rspamd: it answers {shown(exchange.body)}")
        return exchange

    def _check(self, exchange: rspamd.Exchange, blame: Literal["scanner", "message"]) -> None:
        if exchange.status != 200:
            text = f"{self._line.where} answered {exchange.status}: {shown(exchange.body)}"
            raise ScannerTrouble(text, "scanner" if exchange.status in OWN_TROUBLE else blame)


def _headers(mail: Mail) -> Iterator[tuple[bytes, bytes]]:
    """Who sent it to whom: rspamd judges the sender by these, and not by us."""
    told = [("Queue-Id", mail.id), ("From", mail.reverse_path or "<>")]
    told += [("Rcpt", recipient) for recipient in mail.recipients]
    told += [("IP", _ip(mail.client_ip)), ("Helo", mail.helo or _helo(mail)), ("User", mail.user or "")]
    for name, value in told:
        header = rspamd.header(name, value)
        if header is not None:
            yield header


def _helo(mail: Mail) -> str:
    """What who handed a message to the provider called itself: that isn't on record, but in the octets."""
    return helo(headers.received(mail.octets), mail.client_ip) if mail.client_ip else ""


def _ip(client_ip: str) -> str:
    """The address, "" where it is none: rspamd refuses the whole message for a wrong one."""
    try:
        return str(ip_address(client_ip))
    except ValueError:
        return ""
