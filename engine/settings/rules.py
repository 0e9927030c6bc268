"""From the tables of a configuration file to `Settings`.

Owns the defaults that depend on other keys, paths made absolute, and the rules between keys. A combination that can't work, or
that would work otherwise than it reads, is a Fault at the key to change. Reads no file and no secret; what is legal but
doubtful is not a matter of this module.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import MappingProxyType

from engine.core import direct
from engine.settings.addresses import tcp_address
from engine.settings.holding import holds
from engine.settings.lines import Place
from engine.settings.listen import listen
from engine.settings.mailbox import mailbox, unique_names
from engine.settings.next_hop import next_hop
from engine.settings.reading import Fault, meant, nearest, read, time_of_day
from engine.settings.scanner import quarantine, scanners
from engine.settings.shapes import (
    Gateway,
    MetricsSettings,
    Retention,
    Retry,
    Route,
    Settings,
)
from engine.settings.store import store
from engine.settings.tables import FileTable, GatewayTable, MetricsTable, RetryTable, RouteTable
from engine.settings.values import Domain, shown
from engine.settings.webhook import webhooks

FIRST_AT_LEAST_SECONDS = 1  # the wait is doubled each time: nothing doubled is nothing


def settings_from(written: dict[str, object], path: Path) -> Settings:
    """The settings that a parsed file says. `path` is absolute. Raises Fault."""
    file, folder = read(written, FileTable), path.parent
    gateway = _gateway(file.gateway)
    unique_names(file.mailbox)
    next_hops = {name: next_hop(name, table, folder) for name, table in file.next_hop.items()}
    if direct.MX not in next_hops and any(route.next_hop == direct.MX for route in file.route):
        next_hops[direct.MX] = next_hop(direct.MX, {}, folder)
    settings = Settings(
        path=path,
        gateway=gateway,
        store=store(file.store, folder),
        mailboxes=tuple(mailbox(n, table, gateway, folder) for n, table in enumerate(file.mailbox)),
        next_hops=MappingProxyType(next_hops),
        holds=holds(file.hold, tuple(next_hops)),
        routes=tuple(_route(n, table, tuple(next_hops)) for n, table in enumerate(file.route)),
        listen=None if file.listen is None else listen(file.listen, gateway, folder),
        scanners=scanners(file.scanner, folder),
        quarantine=quarantine(file.quarantine),
        metrics=None if file.metrics is None else _metrics(file.metrics),
        webhooks=webhooks(file.webhook, folder),
        retry=_retry(file.retry),
        retention=Retention(
            contents_seconds=float(file.retention.contents),
            quarantined_seconds=float(file.retention.quarantined),
        ),
    )
    _check_metrics(settings)
    if gateway.domains and not settings.routes and "home" not in next_hops:
        raise Fault(
            ("next_hop", "home"), "is missing: without a [[route]], mail for gateway.domains goes there"
        )
    return settings


def _gateway(table: GatewayTable) -> Gateway:
    postmaster: str | None = table.postmaster
    if postmaster is None:
        if not table.domains:
            raise Fault(("gateway", "postmaster"), "is missing: who shall hear of trouble?")
        postmaster = f"postmaster@{table.domains[0]}"  # RFC 5321 section 4.5.1: every domain has one
    return Gateway(
        hostname=table.hostname or _machine_name(),
        postmaster=postmaster,
        domains=tuple(dict.fromkeys(table.domains)),
        connections_per_host=table.connections_per_host,
        daily_report_at=None
        if table.daily_report is None
        else time_of_day(("gateway", "daily_report"), table.daily_report),
        require_reason=table.require_reason,
    )


def _machine_name() -> str:
    name = socket.gethostname()
    name = name if "." in name else socket.getfqdn()  # the second asks DNS, which can take seconds
    try:
        return Domain.parse(name)
    except ValueError:
        place = ("gateway", "hostname")
        raise Fault(place, f"is missing, and the machine's name {shown(name)} is no domain") from None


def _route(index: int, table: RouteTable, next_hops: tuple[str, ...]) -> Route:
    place: Place = ("route", index)
    if table.next_hop not in next_hops:  # "mx" is there once a route names it
        text = f"there is no next hop {shown(table.next_hop)}; {nearest(table.next_hop, next_hops)}"
        raise Fault((*place, "next_hop"), text)
    if not (table.recipients or table.senders or table.users):
        raise Fault((*place, "recipients"), 'is missing: which mail is meant? For all mail write ["*"]')
    return Route(
        recipients=tuple(table.recipients),
        senders=tuple(table.senders),
        users=tuple(table.users),
        next_hop=table.next_hop,
    )


def _metrics(table: MetricsTable) -> MetricsSettings:
    return MetricsSettings(address=meant(("metrics", "address"), lambda: tcp_address(table.address)))


def _check_metrics(settings: Settings) -> None:
    """Refuse one address for two listeners. Raises Fault."""
    address = settings.metrics.address if settings.metrics else None
    if address and address.port and settings.listen and address in settings.listen.addresses:
        raise Fault(("metrics", "address"), f"is {address.text} like listen.address: choose another port")


def _retry(table: RetryTable) -> Retry:
    if table.first < FIRST_AT_LEAST_SECONDS:
        raise Fault(("retry", "first"), f'is too soon: at least "{FIRST_AT_LEAST_SECONDS}s"')
    for key in ("cap", "give_up_after"):
        if getattr(table, key) < table.first:
            raise Fault(("retry", key), "is shorter than first: write at least as much")
    return Retry(
        first_seconds=float(table.first),
        cap_seconds=float(table.cap),
        give_up_after_seconds=float(table.give_up_after),
        warn_after_seconds=float(table.warn_after),
    )
