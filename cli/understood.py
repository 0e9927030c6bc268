"""What a configuration was understood to say, part by part: for `mailgate check`.

Owns the words for people and the facts for programs; never a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cli import context, times
from cli.trial import Trial
from engine.core import direct, routing
from engine.core.holding import HoldRule
from engine.core.routing import Patterns
from engine.settings import (
    Listen,
    Mailbox,
    NextHopSettings,
    Route,
    ScannerSettings,
    Settings,
    WebhookSettings,
)
from store.url import shown

TLS_WORDS = {
    "implicit": "TLS from the start",
    "starttls": "STLS required",
    "required": "STARTTLS required",
    "opportunistic": "STARTTLS if offered",
    "none": "no TLS",
}
REMOVE_WORDS = {
    "delivered": "deleted there once delivered",
    "downloaded": "deleted there once downloaded",
    "never": "never deleted there",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing the configuration names: as it is understood, and what trying it out came to."""

    kind: str
    label: str
    name: str
    text: tuple[str, ...]
    facts: dict[str, Any]
    trial: Trial | None = None


def parts(settings: Settings, trials: Mapping[tuple[str, str], Trial]) -> Iterator[Part]:
    """Yield what the configuration names, in the order of the file's sections; `trials` by kind and name."""
    yield _gateway(settings)
    yield _store(settings, trials.get(("store", "store")))
    for mailbox in settings.mailboxes:
        yield _mailbox(mailbox, trials.get(("mailbox", mailbox.name)))
    for hop in settings.next_hops.values():
        yield _next_hop(hop, trials.get(("next-hop", hop.name)))
    for scanner in settings.scanners:
        yield _scanner(scanner, trials.get(("scanner", scanner.name)))
    yield _quarantine(settings)
    yield _retention(settings)
    for hook in settings.webhooks:
        yield _webhook(hook, trials.get(("webhook", hook.name)))
    if settings.listen is not None:
        yield _listen(settings.listen)
    for number, route in enumerate(settings.routes, start=1):
        yield _route(number, route)
    if not settings.routes or (settings.gateway.domains and routing.HOME in settings.next_hops):
        yield _default_route(settings)
    for number, rule in enumerate(settings.holds, start=1):
        yield _hold(number, rule)


def _gateway(settings: Settings) -> Part:
    gateway = settings.gateway
    domains = ", ".join(gateway.domains)
    facts = {
        "hostname": gateway.hostname,
        "postmaster": gateway.postmaster,
        "domains": list(gateway.domains),
        "daily_report_at_seconds": gateway.daily_report_at,
        "require_reason": gateway.require_reason,
        "policy": settings.policy_version,
    }
    text = f"{gateway.hostname}; postmaster {gateway.postmaster}; domains {domains or 'none'}"
    if gateway.daily_report_at is not None:
        hours, minutes = divmod(gateway.daily_report_at // 60, 60)
        text += f"; daily report at {hours:02}:{minutes:02} UTC"
    return Part(kind="gateway", label="gateway", name=gateway.hostname, text=(text,), facts=facts)


def _store(settings: Settings, trial: Trial | None) -> Part:
    file = context.sqlite_file(settings)
    facts = {"url": str(file) if file else shown(settings.store.url)}
    return Part(kind="store", label="store", name="store", text=(facts["url"],), facts=facts, trial=trial)


def _mailbox(mailbox: Mailbox, trial: Trial | None) -> Part:
    drop = mailbox.multidrop
    facts = {
        "host": mailbox.host,
        "port": mailbox.port,
        "tls": mailbox.tls,
        "username": mailbox.username,
        "poll_every_seconds": mailbox.poll_every,
        "recipients": list(mailbox.recipients),
        "multidrop_headers": list(drop.headers) if drop else [],
        "fallback": mailbox.fallback,
        "remove": mailbox.remove.when,
        "oversize": mailbox.oversize,
    }
    where = f"{mailbox.username} at {mailbox.host}:{mailbox.port}, {TLS_WORDS[mailbox.tls]}"
    every = times.span(timedelta(seconds=mailbox.poll_every))
    text = (f"{mailbox.name}: {where}, every {every}", f"{_for(mailbox)}; {_removed(mailbox)}")
    return Part(kind="mailbox", label="mailbox", name=mailbox.name, text=text, facts=facts, trial=trial)


def _for(mailbox: Mailbox) -> str:
    """Who gets its mail."""
    fallback = f", else {mailbox.fallback}" if mailbox.fallback else ", else held"
    if mailbox.recipients:
        return f"for {', '.join(mailbox.recipients)}"
    if mailbox.multidrop:
        return f"for whom {' or '.join(mailbox.multidrop.headers)} names{fallback}"
    return f"for {mailbox.fallback}"


def _removed(mailbox: Mailbox) -> str:
    if mailbox.remove.when == "after":
        return (
            f"deleted there {times.span(timedelta(seconds=mailbox.remove.after_seconds or 0))} after download"
        )
    return REMOVE_WORDS[mailbox.remove.when]


def _next_hop(hop: NextHopSettings, trial: Trial | None) -> Part:
    is_direct = hop.name == direct.MX
    facts = {
        "host": None if is_direct else hop.host,
        "port": hop.port,
        "tls": hop.tls,
        "username": hop.username,
        "connections": hop.connections,
        "max_size_octets": hop.max_size,
        "on_unknown": hop.on_unknown,
    }
    login = f", as {hop.username}" if hop.username else ""
    limit = f", at most {times.size(hop.max_size)}" if hop.max_size else ""
    where = f"the servers that DNS names, port {hop.port}" if is_direct else f"{hop.host}:{hop.port}"
    strict = hop.tls == "opportunistic" and hop.tls_verify
    text = f"{hop.name}: {where}, {TLS_WORDS['required' if strict else hop.tls]}{login}{limit}"
    return Part(kind="next-hop", label="next hop", name=hop.name, text=(text,), facts=facts, trial=trial)


def _scanner(scanner: ScannerSettings, trial: Trial | None) -> Part:
    facts: dict[str, Any] = {
        "scanner_kind": scanner.kind,
        "address": None if scanner.address is None else scanner.address.text,
        "on_found": scanner.on_found,
        "redirect": scanner.redirect,
        "on_error": scanner.on_error,
        "on_unscannable": scanner.on_unscannable,
        "threshold": scanner.threshold,
        "quarantine_threshold": scanner.quarantine_threshold,
        "max_size_octets": scanner.max_size,
        "timeout_seconds": scanner.timeout_seconds,
        "direction": scanner.direction,
    }
    where = "" if scanner.address is None else f" at {scanner.address.text}"
    limit = f", at most {times.size(scanner.max_size)}" if scanner.max_size else ""
    mail = "all mail" if scanner.direction == "both" else f"{scanner.direction} mail"
    text: tuple[str, ...] = (f"{scanner.name}: {scanner.kind}{where}, {mail}{limit}", _on_found(scanner))
    if scanner.kind == "attachments":
        text, facts = (*text, _meant(scanner)), facts | _meant_facts(scanner)
    return Part(kind="scanner", label="scanner", name=scanner.name, text=text, facts=facts, trial=trial)


def _meant(scanner: ScannerSettings) -> str:
    """Which attachments are meant."""
    where = ", also in zip archives" if scanner.archives else ""
    names = f"names {', '.join(scanner.names)}{where}" if scanner.names else ""
    types = f"types {', '.join(scanner.types)}" if scanner.types else ""
    return "; ".join(filter(None, (names, types)))


def _meant_facts(scanner: ScannerSettings) -> dict[str, Any]:
    return {"names": list(scanner.names), "types": list(scanner.types), "archives": scanner.archives}


def _on_found(scanner: ScannerSettings) -> str:
    """What follows from what it says."""
    on_trial = "pass, on record only" if scanner.on_found == "pass" else scanner.on_found
    action = f"redirect to {scanner.redirect}" if scanner.redirect else on_trial
    above = "" if scanner.threshold is None else f" from score {scanner.threshold:g}"
    kept = scanner.quarantine_threshold
    higher = "" if kept is None else f", quarantine from {kept:g}"
    error = "wait" if scanner.on_error == "defer" else "let it pass"
    return f"what it finds: {action}{above}{higher}; what it can't scan: {scanner.on_unscannable}; if it is down: {error}"


def _quarantine(settings: Settings) -> Part:
    kept, told = settings.retention.quarantined_seconds, settings.quarantine
    digest = None if told.digest_at is None else f"{told.digest_at // 3600:02}:{told.digest_at // 60 % 60:02}"
    facts = {
        "quarantined_seconds": kept,
        "notify_recipients": told.notify_recipients,
        "digest_utc": digest,
    }
    infected = "recipients hear" if told.notify_recipients else "recipients do not hear"
    spam = "no digest of held spam" if digest is None else f"a digest of held spam at {digest} UTC"
    text = (
        f"kept for {times.span(timedelta(seconds=kept))}, then discarded; {infected} of infected mail; {spam}"
    )
    return Part(kind="quarantine", label="quarantine", name="quarantine", text=(text,), facts=facts)


def _retention(settings: Settings) -> Part:
    kept = settings.retention.contents_seconds
    text = f"octets of closed messages are kept for {times.span(timedelta(seconds=kept))}, events for ever"
    facts = {"contents_seconds": kept}
    return Part(kind="retention", label="retention", name="retention", text=(text,), facts=facts)


def _webhook(hook: WebhookSettings, trial: Trial | None) -> Part:
    facts: dict[str, Any] = {
        "url": hook.url.text,
        "events": list(hook.events),
        "timeout_seconds": hook.timeout_seconds,
        "connections": hook.connections,
    }
    order = "in order" if hook.connections == 1 else f"{hook.connections} at once, each message's in order"
    text = (f"{hook.name}: {', '.join(hook.events) or 'every event'} to {hook.url.text}, {order}",)
    return Part(kind="webhook", label="webhook", name=hook.name, text=text, facts=facts, trial=trial)


def _listen(listen: Listen) -> Part:
    addresses = [address.text for address in listen.addresses]
    allow, inbound = ([str(network) for network in networks] for networks in (listen.allow, listen.inbound))
    facts = {
        "addresses": addresses,
        "allow": allow,
        "inbound": inbound,
        "users": list(listen.users),
        "tls": listen.tls_cert is not None,
        "max_size_octets": listen.max_size,
        "max_recipients": listen.max_recipients,
        "connections": listen.connections,
        "free_space": str(listen.free_space),
    }
    starttls = "STARTTLS offered" if listen.tls_cert else "no TLS"
    text = [f"{', '.join(addresses)}, {starttls}, at most {times.size(listen.max_size)}"]
    those = [*allow, *(f"user {name}" for name in listen.users)]
    text.append(f"{', '.join(those) or 'nobody'} may relay")
    if listen.inbound:
        text.append(f"{', '.join(inbound)} may send to our domains")
    return Part(kind="listen", label="listen", name="listen", text=tuple(text), facts=facts)


def _route(number: int, route: Route) -> Part:
    facts = _patterns(route) | {"next_hop": route.next_hop}
    to = "the mail servers of its domain, our own domains aside" if route.next_hop == direct.MX else ""
    text = f"{number}: {' and '.join(_asked(route)) or 'everything'} to {to or f'next hop {route.next_hop}'}"
    return Part(kind="route", label="route", name=str(number), text=(text,), facts=facts)


def _patterns(rule: Patterns) -> dict[str, Any]:
    return {"recipients": list(rule.recipients), "senders": list(rule.senders), "users": list(rule.users)}


def _asked(rule: Patterns) -> list[str]:
    words = ("to", rule.recipients), ("from", rule.senders), ("by user", rule.users)
    return [f"{word} {', '.join(patterns)}" for word, patterns in words if patterns]


def _hold(number: int, rule: HoldRule) -> Part:
    facts = _patterns(rule) | {"next_hop": rule.next_hop, "until": rule.until}
    through = [] if rule.next_hop is None else [f"through {rule.next_hop}"]
    until = "a person lets it go on" if rule.until is None else times.stamp(rule.until)
    if rule.until is not None and rule.until <= times.now():
        until += ", which is past: it holds nothing any more"
    text = f"{number}: {' and '.join([*_asked(rule), *through])}, until {until}"
    return Part(kind="hold", label="hold", name=str(number), text=(text,), facts=facts)


def _default_route(settings: Settings) -> Part:
    domains = settings.gateway.domains
    facts = {"recipients": [f"*@{one}" for one in domains], "senders": [], "users": [], "next_hop": "home"}
    why = "where no route fits" if settings.routes else "there is no [[route]]"
    text = f"to {', '.join(facts['recipients']) or 'none'} to next hop home ({why})"
    return Part(kind="route", label="route", name="default", text=(text,), facts=facts)
