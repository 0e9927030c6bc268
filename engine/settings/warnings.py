"""What a configuration may say and probably shouldn't, and what it names that isn't there.

For people to read, one line each; nothing here keeps the gateway from starting. Looks at the files that the
configuration names, never into them, and whether the environment has what it names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from engine.core import envelope
from engine.core.direct import MX
from engine.core.routing import HOME
from engine.secrets import Secret
from engine.settings.shapes import (
    Mailbox,
    NextHopSettings,
    Route,
    ScannerSettings,
    Settings,
    WebhookSettings,
)
from engine.settings.store import sqlite_file

SELDOM_ENOUGH_SECONDS = 10  # between two polls of a mailbox
EXPECTED_RECIPIENTS = 100
SECRET_CHARACTERS = 24  # of letters and digits: beyond guessing, whoever sees a signature


def warnings(settings: Settings) -> tuple[str, ...]:
    """Legal but doubtful things, one line each, in the order of the file's sections."""
    found: list[str] = []
    if "." not in settings.gateway.hostname or settings.gateway.hostname.startswith("localhost."):
        found.append(f"gateway.hostname: {settings.gateway.hostname} is no full name: some servers refuse it")
    if not settings.mailboxes and settings.listen is None:
        found.append("there is no [[mailbox]] and no [listen]: no mail will come in")
    for mailbox in settings.mailboxes:
        whose = f"mailbox '{mailbox.name}'"
        found += [f"{whose}: {text}" for text in _of_mailbox(mailbox, settings)]
    for hop in settings.next_hops.values():
        found += [f"next_hop.{hop.name}: {text}" for text in _of_next_hop(hop)]
    if settings.listen is not None and settings.listen.max_recipients < EXPECTED_RECIPIENTS:
        found.append("listen.max_recipients: clients may count on 100 (RFC 5321 section 4.5.3.1.8)")
    for number, scanner in enumerate(settings.scanners, start=1):
        found += [f"scanner[{number}]: {text}" for text in _of_scanner(scanner)]
    for number, route in enumerate(settings.routes, start=1):
        found += [f"route[{number}]: {text}" for text in _of_route(route, settings)]
    for hook in settings.webhooks:
        found += [f"webhook '{hook.name}': {text}" for text in _of_webhook(hook)]
    found += _of_files(settings)
    found += _of_environment(settings)
    return tuple(found)


def _of_mailbox(mailbox: Mailbox, settings: Settings) -> Iterator[str]:
    if mailbox.tls == "none" and not _is_here(mailbox.host):
        yield 'tls = "none": mail, and the password unless the server knows APOP, can be read on the way'
    if not mailbox.tls_verify and mailbox.tls != "none":
        yield "tls_verify = false: anyone can pass for the server; prefer tls_ca or tls_fingerprint"
    if mailbox.poll_every < SELDOM_ENOUGH_SECONDS and not _is_here(mailbox.host):
        yield "poll_every: many providers lock out who logs in so often"
    match mailbox.remove.when:
        case "never":
            yield 'remove = "never": the mailbox grows until the provider refuses mail'
        case "downloaded":
            yield 'remove = "downloaded": deletes before delivery; until then our store has the only copy'
        case "after":
            after, limit = mailbox.remove.after_seconds or 0.0, settings.retry.give_up_after_seconds
            if after < limit:
                yield "remove: may delete before delivery: it is shorter than retry.give_up_after"
        case "delivered":
            pass
    given = (*mailbox.recipients, mailbox.fallback) if mailbox.fallback else mailbox.recipients
    for address in given:
        if not _has_way(address, settings):
            yield f"{address}: no route leads to a next hop; its mail will be held"
    for domain in mailbox.multidrop.domains if mailbox.multidrop else ():
        if not settings.routes and domain not in settings.gateway.domains:
            yield f"multidrop.domains: {domain} is not in gateway.domains; its mail will be held"


def _has_way(address: str, settings: Settings) -> bool:
    """Whether some mail for `address` can find a next hop; a route may ask for more than the recipient."""
    is_own = envelope.domain(address) in settings.gateway.domains
    if is_own and HOME in settings.next_hops:
        return True
    return any(
        _may_take(route, address) for route in settings.routes if not (is_own and route.next_hop == MX)
    )


def _may_take(route: Route, address: str) -> bool:
    return not route.users and (
        not route.recipients or any(envelope.matches(pattern, address) for pattern in route.recipients)
    )


def _of_next_hop(hop: NextHopSettings) -> Iterator[str]:
    is_here = _is_here(hop.host)
    if hop.tls == "none" and not is_here:
        yield f'tls = "none": mail{" and the password" if hop.username else ""} can be read on the way'
    if hop.tls == "opportunistic" and not hop.tls_verify and hop.username and not is_here:
        yield 'tls = "opportunistic" with a password: any certificate is accepted, so anybody can get it; write tls = "required"'
    if not hop.tls_verify and not hop.tls_fingerprint and hop.tls in ("required", "implicit"):
        yield "tls_verify = false: anyone can pass for the server; prefer tls_ca or tls_fingerprint"
    if hop.on_unknown == "hold":
        yield 'on_unknown = "hold": mail whose delivery is in doubt waits for a person'


def _of_route(route: Route, settings: Settings) -> Iterator[str]:
    """A route for everything that takes along what may be meant to go home."""
    if route.next_hop in (HOME, MX) or HOME not in settings.next_hops:
        return
    before = settings.routes[: settings.routes.index(route)]
    for domain in settings.gateway.domains:
        if _takes_all_of(domain, route) and not any(_takes_all_of(domain, one) for one in before):
            home = f'recipients = ["*@{domain}"], next_hop = "home"'
            yield f"takes mail for our own {domain} too: where that should go home, put one before it with {home}"


def _takes_all_of(domain: str, route: Route) -> bool:
    everything = ("*", domain, f"@{domain}", f"*@{domain}")
    narrow = route.senders or route.users or route.next_hop == MX
    return not narrow and any(pattern in everything for pattern in route.recipients)


def _of_scanner(scanner: ScannerSettings) -> Iterator[str]:
    if scanner.on_error == "pass":
        yield 'on_error = "pass": mail goes through unscanned while the scanner is down'
    if scanner.on_found == "discard":
        yield 'on_found = "discard": a false alarm is lost; "quarantine" keeps it'
    if scanner.kind in ("clamd", "attachments") and scanner.on_found in ("tag", "pass"):
        what = "infected mail" if scanner.kind == "clamd" else "what is found"
        yield f'on_found = "{scanner.on_found}": {what} is delivered'
    if scanner.on_found == "pass" and scanner.on_error == "defer":
        yield 'on_found = "pass": nothing follows from what it says, and yet mail waits for it; write on_error = "pass"'


def _of_webhook(hook: WebhookSettings) -> Iterator[str]:
    if not hook.url.tls and not _is_here(hook.url.host):
        yield "url: addresses and subjects can be read on the way; write https://"
    if hook.secret.kind == "text" and len(hook.secret.source) < SECRET_CHARACTERS:
        yield f"secret: is short enough to be guessed; {SECRET_CHARACTERS} random characters are not"


def _of_files(settings: Settings) -> Iterator[str]:
    for key, path in _named_files(settings):
        if wrong := _missing(path):
            yield f"{key}: {wrong}: {path}"
    if _is_open_to_all(settings.path):
        if any(secret.kind == "text" for secret in _secrets(settings)):
            yield "a password is written in this file, which every user may read: chmod o-r, or { file = … }"
        if _store_has_password(settings.store.url):
            yield "store.url: holds a password, and every user may read this file: chmod o-r, or ~/.pgpass"
    for secret in _secrets(settings):
        if secret.kind == "file" and _is_open_to_all(Path(secret.source)):
            yield f"{secret.used_for}: every user may read {secret.source}: chmod o-r"
    file = sqlite_file(settings.store)
    if file and _is_open_to_all(file):
        yield f"store.url: every user may read {file}, and all mail in it: chmod o-r {file}*"


def _missing(path: Path) -> str | None:
    """What keeps `path` from being a file to read, None where nothing does or it is not for us to see."""
    try:
        return "is a folder, no file" if path.is_dir() else None if path.exists() else "no such file"
    except OSError:
        return None  # who may see it will find out


def _of_environment(settings: Settings) -> Iterator[str]:
    for secret in _secrets(settings):
        if secret.kind == "env" and not os.environ.get(secret.source):
            yield f"{secret.used_for}: the environment variable {secret.source} is not set here"


def _named_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    for mailbox in settings.mailboxes:
        if mailbox.tls_ca:
            yield f"mailbox '{mailbox.name}': tls_ca", mailbox.tls_ca
    for hop in settings.next_hops.values():
        if hop.tls_ca:
            yield f"next_hop.{hop.name}.tls_ca", hop.tls_ca
    if settings.listen:
        for key in ("tls_cert", "tls_key"):
            if path := getattr(settings.listen, key):
                yield f"listen.{key}", path
    for hook in settings.webhooks:
        if hook.tls_ca:
            yield f"webhook '{hook.name}': tls_ca", hook.tls_ca
    for secret in _secrets(settings):
        if secret.kind == "file":
            yield secret.used_for, Path(secret.source)


def _secrets(settings: Settings) -> Iterator[Secret]:
    yield from (mailbox.password for mailbox in settings.mailboxes)
    yield from (hop.password for hop in settings.next_hops.values() if hop.password)
    yield from settings.listen.users.values() if settings.listen else ()
    yield from (hook.secret for hook in settings.webhooks)


def _store_has_password(url: str) -> bool:
    from store.url import holds_password  # and with it what opens databases, which not every command does

    return not url.startswith("sqlite:") and holds_password(url)


def _is_open_to_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _is_here(host: str) -> bool:
    """Whether `host` is this machine, so that nothing is on the way."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
