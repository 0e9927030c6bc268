"""What a configuration says, as frozen values: the shapes of `Settings` and its parts.

Everything here is already checked, every default filled in, every path absolute. Owns no file and no rule.
Seconds are floats, sizes are octets, domains and patterns are in lower case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Literal

from engine.core.holding import HoldRule
from engine.core.verdict import Action, ScannerKind
from engine.secrets import Secret
from engine.settings.addresses import HttpUrl, IpNetwork, SocketAddress, TcpAddress
from engine.settings.values import FreeSpace

POLICY_VERSION_CHARACTERS = 12  # 48 bits: enough to tell one organisation's configurations apart

FREE_SPACE = FreeSpace("10%")

MailboxTls = Literal["implicit", "starttls", "none"]
MailboxAuth = Literal["auto", "user", "apop", "plain", "xoauth2"]
Oversize = Literal["notify", "keep", "remove"]
RemoveWhen = Literal["delivered", "downloaded", "never", "after"]
NextHopTls = Literal["required", "opportunistic", "implicit", "none"]
OnUnknown = Literal["retry", "hold"]
OnError = Literal["defer", "pass"]
OnUnscannable = Literal["pass", "tag", "quarantine"]
Directions = Literal["both", "inbound", "outbound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Who we are. `domains` are our own: a recipient there is inbound."""

    hostname: str
    postmaster: str
    domains: tuple[str, ...] = ()
    connections_per_host: int = 10
    daily_report_at: int | None = None  # seconds after midnight UTC
    require_reason: bool = False  # of whoever decides about messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the past is kept. `url` is for SQLAlchemy and may hold a password; `in_flight` is in octets."""

    url: str = field(repr=False)
    in_flight: int = 256 << 20
    subjects: bool = True  # whether they go on record


@dataclass(frozen=True, slots=True, kw_only=True)
class Multidrop:
    """How recipients are read from a catch-all mailbox's headers.

    `occurrence` says which instance of a header alone counts, 1 for the topmost, -1 for the lowest; None
    leaves it to `engine.core.routing`. `strip_prefix` is what the provider puts in front of each address.
    """

    headers: tuple[str, ...]
    domains: tuple[str, ...]
    strip_prefix: str = ""
    occurrence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """When a message is deleted from its mailbox; `after_seconds` counts from the download, with `after`
    only."""

    when: RemoveWhen = "delivered"
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """One POP3 mailbox. Either `recipients` or `multidrop` or neither; then everything goes to `fallback`.

    `tls_fingerprint` is `sha256:` and 64 hex digits. `max_size` is in octets. With auth `xoauth2` the
    password is the token.
    """

    name: str
    host: str
    port: int = 995
    tls: MailboxTls = "implicit"
    tls_verify: bool = True
    tls_ca: Path | None = None
    tls_fingerprint: str | None = None
    username: str
    password: Secret
    auth: MailboxAuth = "auto"
    poll_every: float = 60.0
    recipients: tuple[str, ...] = ()
    multidrop: Multidrop | None = None
    fallback: str | None = None
    remove: Remove = Remove()
    oversize: Oversize = "notify"
    max_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHopSettings:
    """A server we hand mail to. `username` and `password` come together. `max_size` is in octets.

    The one named "mx" is not a server, but direct delivery: it has no host and no login, and `nameservers` says which
    servers to ask for those of a domain; empty: those of the machine.

    `tls_verify` is on by default, but off for opportunistic TLS without `tls_ca` or `tls_fingerprint` (RFC 7435: some
    protection without proof of who answers). Where it is on, opportunistic TLS is as strict as required TLS.
    """

    name: str
    host: str
    port: int = 25
    tls: NextHopTls = "opportunistic"
    tls_verify: bool = False
    tls_ca: Path | None = None
    tls_fingerprint: str | None = None
    username: str | None = None
    password: Secret | None = None
    connections: int = 4
    messages_per_connection: int = 100
    max_size: int | None = None
    on_unknown: OnUnknown = "retry"
    nameservers: tuple[TcpAddress, ...] = ()
    spam_refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which mail goes to which next hop. Every list that isn't empty must match, by one of its patterns.

    Patterns are in lower case; what they match is said in `engine.core.envelope`.
    """

    recipients: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    next_hop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where mail is accepted by SMTP, and from whom. `max_size` is in octets.

    Who is in `inbound` sends to our own domains only. `senders` has the patterns of the reverse-paths that a user or a network
    may use; who isn't there may use any. `connections_per_address` None leaves it to the listener.
    """

    addresses: tuple[TcpAddress, ...]
    allow: tuple[IpNetwork, ...]
    inbound: tuple[IpNetwork, ...] = ()
    senders: Mapping[str | IpNetwork, tuple[str, ...]] = field(default_factory=dict)
    users: Mapping[str, Secret] = field(default_factory=dict)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_size: int = 35 << 20
    max_recipients: int = 1000
    connections: int = 100
    connections_per_address: int | None = None
    free_space: FreeSpace = FREE_SPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerSettings:
    """A scanner and what follows from its verdict. Without `threshold` its own judgement counts. `max_size` is in octets.

    Of kind "attachments" it is a part of the gateway, without `address`: `names` and `types` are the patterns of file names and
    content types that it finds, `archives` whether it looks at the names in zip files.
    """

    name: str
    kind: ScannerKind
    address: SocketAddress | None = None
    on_found: Action
    redirect: str | None = None
    on_error: OnError = "defer"
    on_unscannable: OnUnscannable = "pass"
    threshold: float | None = None
    quarantine_threshold: float | None = None
    max_size: int | None = None
    timeout_seconds: float = 60.0
    connections: int = 4
    direction: Directions = "both"
    scl: tuple[tuple[float, int], ...] = ()
    subject_prefix: str = ""
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    archives: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Who is told of what is kept. `digest_at` is seconds after midnight UTC, None for no digest."""

    notify_recipients: bool = False
    digest_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a deferred message is tried again: from `first_seconds`, doubled each time up to `cap_seconds`."""

    first_seconds: float = 300.0
    cap_seconds: float = 3600.0
    give_up_after_seconds: float = 5 * 86400.0
    warn_after_seconds: float = 4 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long the octets of closed messages are kept, and how long a message may stay in quarantine."""

    contents_seconds: float = 30 * 86400.0
    quarantined_seconds: float = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where monitoring asks."""

    address: TcpAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """A program that is told of events, by their names; none: of all. `connections` are requests at once."""

    name: str
    url: HttpUrl
    secret: Secret
    events: tuple[str, ...] = ()
    tls_ca: Path | None = None
    timeout_seconds: float = 10.0
    connections: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration. `policy_version` changes when, and only when, something that decides changes.

    `fingerprint` changes with whatever the file says; "" where it is from no file.
    """

    path: Path
    gateway: Gateway
    store: Store
    mailboxes: tuple[Mailbox, ...] = ()
    next_hops: Mapping[str, NextHopSettings] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    holds: tuple[HoldRule, ...] = ()
    listen: Listen | None = None
    scanners: tuple[ScannerSettings, ...] = ()
    quarantine: Quarantine = Quarantine()
    metrics: MetricsSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = ()
    retry: Retry = Retry()
    retention: Retention = Retention()
    fingerprint: str = ""
    policy_version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy_version", _policy_version(self))


_DECIDES_NOTHING = frozenset(
    {"path", "store", "in_flight", "connections", "connections_per_host", "messages_per_connection"}
    | {"poll_every", "connections_per_address", "free_space", "nameservers", "policy_version", "fingerprint"}
    | {"metrics", "webhooks", "address", "timeout_seconds", "digest_at", "daily_report_at", "require_reason"}
)


def _policy_version(settings: Settings) -> str:
    text = json.dumps(_deciding(settings), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:POLICY_VERSION_CHARACTERS]


def _deciding(value: object) -> object:
    """`value` as JSON would have it, without secrets and paths: only that there is one counts."""
    if isinstance(value, Secret | Path):
        return "given"
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.name not in _DECIDES_NOTHING]
        return {name: _deciding(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): _deciding(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_deciding(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
