"""The tables of a configuration file as they are written: which keys there are, of what type, with what
default.

Checks each key by itself; rules between keys are not here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from engine.core.verdict import ScannerKind
from engine.settings.shapes import (
    FREE_SPACE,
    Directions,
    MailboxAuth,
    MailboxTls,
    NextHopTls,
    OnError,
    OnUnknown,
    OnUnscannable,
    Oversize,
)
from engine.settings.values import (
    Address,
    AddressPattern,
    Domain,
    Duration,
    FieldName,
    FilePath,
    Fingerprint,
    FreeSpace,
    Host,
    Name,
    Pattern,
    Size,
)

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Recipients = Annotated[int, Meta(ge=1, le=100_000)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table whose keys are all known."""


class SecretTable(Table, frozen=True, kw_only=True):
    env: str | None = None
    file: str | None = None
    command: str | None = None


SecretWritten = str | SecretTable


class GatewayTable(Table, frozen=True, kw_only=True):
    hostname: Domain | None = None
    postmaster: Address | None = None
    domains: tuple[Domain, ...] = ()
    connections_per_host: Count = 10
    daily_report: str | None = None
    require_reason: bool = False


class StoreTable(Table, frozen=True, kw_only=True):
    url: str = "sqlite:///mailgate.db"
    in_flight: Size = Size(256 << 20)
    subjects: bool = True


class MultidropTable(Table, frozen=True, kw_only=True):
    headers: tuple[FieldName, ...]
    domains: tuple[Domain, ...] = ()
    strip_prefix: str = ""
    occurrence: Annotated[int, Meta(ge=-1000, le=1000)] | None = None


class MailboxTable(Table, frozen=True, kw_only=True):
    name: Name
    host: Host
    port: Port | None = None
    tls: MailboxTls = "implicit"
    tls_verify: bool = True
    tls_ca: FilePath | None = None
    tls_fingerprint: Fingerprint | None = None
    username: str
    password: SecretWritten
    auth: MailboxAuth = "auto"
    poll_every: Duration = Duration(60)
    recipients: tuple[Address, ...] = ()
    multidrop: MultidropTable | None = None
    fallback: Address | None = None
    remove: str = "delivered"
    oversize: Oversize = "notify"
    max_size: Size | None = None


class NextHopTable(Table, frozen=True, kw_only=True):
    host: Host | None = None
    port: Port | None = None
    tls: NextHopTls = "opportunistic"
    tls_verify: bool | UnsetType = UNSET
    tls_ca: FilePath | None = None
    tls_fingerprint: Fingerprint | None = None
    username: str | None = None
    password: SecretWritten | None = None
    connections: Count = 4
    messages_per_connection: Count = 100
    max_size: Size | None = None
    on_unknown: OnUnknown = "retry"
    nameservers: tuple[str, ...] = ()
    spam_refusals: tuple[str, ...] | None = None


class RouteTable(Table, frozen=True, kw_only=True):
    recipients: tuple[AddressPattern, ...] = ()
    senders: tuple[AddressPattern, ...] = ()
    users: tuple[Pattern, ...] = ()
    next_hop: str


class HoldTable(Table, frozen=True, kw_only=True):
    recipients: tuple[AddressPattern, ...] = ()
    senders: tuple[AddressPattern, ...] = ()
    users: tuple[Pattern, ...] = ()
    next_hop: str | None = None
    until: datetime | None = None


class ListenTable(Table, frozen=True, kw_only=True):
    address: str | tuple[str, ...] = "127.0.0.1:2500"
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    inbound: tuple[str, ...] = ()
    users: dict[str, Any] = {}
    senders: dict[str, tuple[AddressPattern, ...]] = {}
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    max_size: Size = Size(35 << 20)  # what Exchange calls 35 MB
    max_recipients: Recipients = 1000
    connections: Count = 100
    connections_per_address: Count | None = None
    free_space: FreeSpace = FREE_SPACE


class ScannerTable(Table, frozen=True, kw_only=True):
    kind: ScannerKind
    name: Name | None = None
    address: str | None = None
    on_found: str | None = None
    on_error: OnError = "defer"
    on_unscannable: OnUnscannable = "pass"
    threshold: float | None = None
    quarantine_threshold: float | None = None
    max_size: Size | None = None
    timeout: Duration = Duration(60)
    connections: Count = 4
    direction: Directions = "both"
    scl: int | dict[str, int] | None = None
    subject_prefix: str = ""
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    archives: bool = True


class QuarantineTable(Table, frozen=True, kw_only=True):
    notify_recipients: bool = False
    digest: str | None = None


class MetricsTable(Table, frozen=True, kw_only=True):
    address: str = "127.0.0.1:9464"


class WebhookTable(Table, frozen=True, kw_only=True):
    name: Name | None = None
    url: str
    secret: SecretWritten
    events: tuple[str, ...] = ()
    tls_ca: FilePath | None = None
    timeout: Duration = Duration(10)
    connections: Annotated[int, Meta(ge=1, le=32)] = 1


class RetryTable(Table, frozen=True, kw_only=True):
    first: Duration = Duration(300)
    cap: Duration = Duration(3600)
    give_up_after: Duration = Duration(5 * 86400)
    warn_after: Duration = Duration(4 * 3600)


class RetentionTable(Table, frozen=True, kw_only=True):
    contents: Duration = Duration(30 * 86400)
    quarantined: Duration = Duration(30 * 86400)


class FileTable(Table, frozen=True, kw_only=True):
    gateway: GatewayTable = GatewayTable()
    store: StoreTable = StoreTable()
    mailbox: tuple[MailboxTable, ...] = ()
    next_hop: dict[str, Any] = {}
    route: tuple[RouteTable, ...] = ()
    hold: tuple[HoldTable, ...] = ()
    listen: ListenTable | None = None
    scanner: tuple[ScannerTable, ...] = ()
    quarantine: QuarantineTable = QuarantineTable()
    metrics: MetricsTable | None = None
    webhook: tuple[WebhookTable, ...] = ()
    retry: RetryTable = RetryTable()
    retention: RetentionTable = RetentionTable()
