"""What a [[mailbox]] table comes to: its `Mailbox`, or the Fault that names the key to change.

Owns the rules between a mailbox's keys: who gets its mail, when it is removed, how often it is polled. Reads
no file and no secret.
"""

from __future__ import annotations

from pathlib import Path

from engine.core.routing import NO_ENVELOPE_HEADERS
from engine.settings.lines import Place
from engine.settings.login import absolute, check_tls, one_line, secret_from
from engine.settings.reading import Fault, meant
from engine.settings.shapes import Gateway, Mailbox, Multidrop, Remove
from engine.settings.tables import MailboxTable, MultidropTable
from engine.settings.values import Duration, shown

POLL_EVERY_AT_LEAST_SECONDS = 1


def unique_names(tables: tuple[MailboxTable, ...]) -> None:
    """Refuse a name that is used twice. Raises Fault."""
    # Compared without case: the names become names of streams, and people take Info and info for one.
    names = [table.name.lower() for table in tables]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Fault(("mailbox", index, "name"), f"{shown(str(tables[index].name))} is already used")


def mailbox(index: int, table: MailboxTable, gateway: Gateway, folder: Path) -> Mailbox:
    """The mailbox at `index` (from 0) of the file. Raises Fault."""
    place: Place = ("mailbox", index)
    whose = f"mailbox '{table.name}'"
    check_tls(place, table, verify_written=table.tls_verify)
    _check_mailbox(place, table)
    return Mailbox(
        name=table.name,
        host=table.host,
        port=table.port or (995 if table.tls == "implicit" else 110),
        tls=table.tls,
        tls_verify=table.tls_verify,
        tls_ca=absolute(table.tls_ca, folder),
        tls_fingerprint=table.tls_fingerprint,
        username=one_line((*place, "username"), table.username),
        password=secret_from((*place, "password"), table.password, f"{whose}: password", folder),
        auth=table.auth,
        poll_every=float(table.poll_every),
        recipients=tuple(dict.fromkeys(table.recipients)),
        multidrop=_multidrop((*place, "multidrop"), table.multidrop, gateway),
        fallback=table.fallback,
        remove=meant((*place, "remove"), lambda: _remove(table.remove)),
        oversize=table.oversize,
        max_size=table.max_size,
    )


def _check_mailbox(place: Place, table: MailboxTable) -> None:
    if table.recipients and table.multidrop:
        raise Fault((*place, "multidrop"), "can't go with recipients: leave one of them out")
    if not table.recipients and not table.multidrop and not table.fallback:
        raise Fault((*place, "recipients"), "is missing: who gets this mail? (or give multidrop or fallback)")
    if table.poll_every < POLL_EVERY_AT_LEAST_SECONDS:
        raise Fault((*place, "poll_every"), f'is too often: at least "{POLL_EVERY_AT_LEAST_SECONDS}s"')
    if table.auth == "xoauth2" and table.tls == "none":
        raise Fault((*place, "auth"), "xoauth2 needs TLS: the token would cross the network in the clear")


def _multidrop(place: Place, table: MultidropTable | None, gateway: Gateway) -> Multidrop | None:
    if table is None:
        return None
    if not table.headers:
        raise Fault((*place, "headers"), 'is empty: name what holds the recipients, such as "Delivered-To"')
    for index, header in enumerate(table.headers):
        if header.lower() in NO_ENVELOPE_HEADERS or header.lower().startswith("resent-"):
            raise Fault((*place, "headers", index), f"{header} can't be used: {_why_not(header)}")
    if table.occurrence == 0:
        raise Fault((*place, "occurrence"), "counts from 1 at the top, or from -1 at the bottom")
    domains = table.domains or gateway.domains
    if not domains:
        raise Fault((*place, "domains"), "is missing, and so is gateway.domains: whose addresses count?")
    return Multidrop(
        headers=tuple(table.headers),
        domains=tuple(dict.fromkeys(domains)),
        strip_prefix=table.strip_prefix,
        occurrence=table.occurrence,
    )


def _why_not(header: str) -> str:
    if header.lower() == "received":
        return "servers leave recipients out of it when there are several, so mail would go astray"
    return "the sender writes it, and it names neither blind copies nor who of a list is meant"


def _remove(written: str) -> Remove:
    match written:
        case "delivered" | "downloaded" | "never":
            return Remove(when=written)
        case _:
            return Remove(when="after", after_seconds=_after_seconds(written))


def _after_seconds(written: str) -> float:
    try:
        after = Duration.parse(written)
    except ValueError:
        text = f'expected delivered, downloaded, never or a duration such as "14d", found {shown(written)}'
        raise ValueError(text) from None
    if not after > 0:
        raise ValueError('expected a time after the download: to remove at once, write "downloaded"')
    return float(after)
