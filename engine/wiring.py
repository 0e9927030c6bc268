"""Settings become policy, next hops and mailboxes. Holds no rule of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.adapters.pop3_source import MailboxAccess, open_session
from engine.adapters.smtp_access import NextHopAccess
from engine.adapters.smtp_next_hop import SmtpNextHop
from engine.core import direct
from engine.core.arrival import Candidate, ListenerTerms, MailboxTerms
from engine.core.listing import Removal
from engine.core.policy import HopPolicy, Policy, Retention, longest_backoff
from engine.core.relaying import Rules
from engine.core.routing import MailboxRule, RouteRule
from engine.core.verdict import ScannerPolicy
from engine.fetch import Pollable
from engine.free_space import shortage_of, unasked
from engine.hop import Hop
from engine.hops import DomainHop, Hops
from engine.poll import MailboxPlan
from engine.ports import SourceSession, SourceTrouble
from engine.secrets import Secret, SecretError
from engine.settings import Listen, Mailbox, NextHopSettings, ScannerSettings, Settings
from engine.watched import Configured, Outlook, Watched

if TYPE_CHECKING:
    from engine.adapters.listener_brief import Brief
    from engine.adapters.mx import MailServers
    from engine.adapters.mx_next_hop import MxNextHop
    from engine.adapters.smtp_listener_access import ListenerAccess


def policy_of(settings: Settings) -> Policy:
    """Return what the configuration decides."""
    return Policy(
        version=settings.policy_version,
        hostname=settings.gateway.hostname,
        postmaster=settings.gateway.postmaster,
        domains=settings.gateway.domains,
        routes=tuple(
            RouteRule(recipients=r.recipients, senders=r.senders, users=r.users, next_hop=r.next_hop)
            for r in settings.routes
        ),
        holds=settings.holds,
        hops={
            name: HopPolicy(
                on_unknown=hop.on_unknown, max_size_octets=hop.max_size, spam_refusals=hop.spam_refusals
            )
            for name, hop in settings.next_hops.items()
        },
        scanners=tuple(_scanner_policy(scanner) for scanner in settings.scanners),
        notify_recipients=settings.quarantine.notify_recipients,
        subjects=settings.store.subjects,
        oversize_untold=frozenset(one.name for one in settings.mailboxes if one.oversize == "keep"),
        retention=Retention(
            contents=timedelta(seconds=settings.retention.contents_seconds),
            quarantined=timedelta(seconds=settings.retention.quarantined_seconds),
        ),
        first=timedelta(seconds=settings.retry.first_seconds),
        cap=timedelta(seconds=settings.retry.cap_seconds),
        give_up_after=timedelta(seconds=settings.retry.give_up_after_seconds),
        warn_after=timedelta(seconds=settings.retry.warn_after_seconds),
    )


def _scanner_policy(settings: ScannerSettings) -> ScannerPolicy:
    directions = ("inbound", "outbound") if settings.direction == "both" else (settings.direction,)
    return ScannerPolicy(
        name=settings.name,
        kind=settings.kind,
        on_found=settings.on_found,
        redirect=settings.redirect,
        on_error=settings.on_error,
        on_unscannable=settings.on_unscannable,
        threshold=settings.threshold,
        quarantine_from=settings.quarantine_threshold,
        max_size_octets=settings.max_size,
        directions=directions,
        scl=settings.scl,
        subject_prefix=settings.subject_prefix,
    )


def watched_of(settings: Settings, file: Path | None) -> Watched:
    """Return what the postmaster hears of; `file` is the store, where it is one."""
    mailboxes = tuple(mailbox.name for mailbox in settings.mailboxes)
    return Watched(mailboxes=mailboxes, hops=tuple(settings.next_hops), shortage=_shortage(settings, file))


def configured_of(settings: Settings) -> Configured:
    """Return what monitoring tells of by name."""
    return Configured(
        mailboxes=tuple(mailbox.name for mailbox in settings.mailboxes),
        hops=tuple(settings.next_hops),
        webhooks=tuple(hook.name for hook in settings.webhooks),
    )


def outlook_of(settings: Settings, file: Path | None, commits: Callable[[], str | None]) -> Outlook:
    """Return what says whether new mail would be kept; `file` is the store, where it is one."""
    listens = settings.listen is not None
    return Outlook(commits=commits, shortage=_shortage(settings, file), refuses=listens)


def _shortage(settings: Settings, file: Path | None) -> Callable[[], str | None]:
    folder = None if file is None else file.parent
    if settings.listen is None:
        return partial(shortage_of, folder, unasked, "a safe store")
    return partial(shortage_of, folder, settings.listen.free_space.octets_of)


def mailbox_rule(mailbox: Mailbox) -> MailboxRule:
    """Return how a mailbox's messages get recipients."""
    drop = mailbox.multidrop
    return MailboxRule(
        recipients=mailbox.recipients,
        headers=drop.headers if drop else (),
        domains=drop.domains if drop else (),
        strip_prefix=drop.strip_prefix if drop else "",
        occurrence=drop.occurrence if drop else None,
        fallback=mailbox.fallback,
    )


def candidate_of(settings: Settings) -> Candidate:
    """Return all that a configuration decides, of what comes in, too."""
    listen = settings.listen
    return Candidate(
        policy=policy_of(settings),
        mailboxes={
            one.name: MailboxTerms(rule=mailbox_rule(one), max_size_octets=one.max_size)
            for one in settings.mailboxes
        },
        listener=None
        if listen is None
        else ListenerTerms(
            rules=_rules(listen, settings), users=frozenset(listen.users), max_size_octets=listen.max_size
        ),
    )


def mailbox_access(mailbox: Mailbox) -> MailboxAccess:
    """Return how to reach a mailbox."""
    return MailboxAccess(
        host=str(mailbox.host),  # uvloop wants exactly a str
        port=mailbox.port,
        tls=mailbox.tls,
        tls_verify=mailbox.tls_verify,
        tls_ca=str(mailbox.tls_ca) if mailbox.tls_ca else None,
        tls_fingerprint=mailbox.tls_fingerprint,
        username=mailbox.username,
        secret=mailbox.password.reveal,
        auth=mailbox.auth,
    )


async def open_mailbox(mailbox: Mailbox) -> SourceSession:
    """Log in to a mailbox. Raises SourceTrouble, also where the password can't be had."""
    try:
        return await open_session(mailbox_access(mailbox))
    except SecretError as error:
        raise SourceTrouble("auth", str(error), permanent=True) from None


def next_hop(settings: NextHopSettings, hostname: str) -> SmtpNextHop:
    """Return the adapter for a next hop."""
    return SmtpNextHop(_access(settings), hostname)


def _access(settings: NextHopSettings) -> NextHopAccess:
    password: Secret | None = settings.password
    return NextHopAccess(
        name=settings.name,
        host=str(settings.host),
        port=settings.port,
        tls=settings.tls,
        tls_verify=settings.tls_verify,
        tls_ca=str(settings.tls_ca) if settings.tls_ca else None,
        tls_fingerprint=settings.tls_fingerprint,
        username=settings.username,
        secret=password.reveal if password else None,
        connections=settings.connections,
        messages_per_connection=settings.messages_per_connection,
    )


def hops_of(settings: Settings, policy: Policy, now: Callable[[], datetime]) -> Hops:
    """Return the next hops; those of direct delivery are made on demand, where a route wants it."""
    fixed = {
        name: Hop(
            next_hop(hop, policy.hostname), policy.hops[name], hop.connections, now, longest_backoff(policy)
        )
        for name, hop in settings.next_hops.items()
        if name != direct.MX
    }
    through = settings.next_hops.get(direct.MX)
    if through is None:
        return Hops(fixed)
    make, longest = directly(through, policy.hostname), longest_backoff(policy)
    return Hops(
        fixed, lambda name: DomainHop(make(name), policy.hops[direct.MX], through.connections, now, longest)
    )


def directly(settings: NextHopSettings, hostname: str) -> Callable[[str], MxNextHop]:
    """Return what makes the adapter for a next hop of direct delivery. Raises OSError where there are no DNS servers."""
    from engine.adapters.mx_next_hop import Directly, MxNextHop

    common = Directly(servers=mail_servers(settings, hostname), access=_access(settings), hello=hostname)
    return lambda name: MxNextHop(name, common)


def listener_brief(listen: Listen, settings: Settings, policy: Policy, file: Path | None) -> Brief:
    """Return what the process that listens is told. `file` is the store, where it is one."""
    from engine.adapters.listener_brief import Brief  # and with it what only a listener needs

    return Brief(
        access=listener_access(listen, settings),
        policy=policy,
        sockets=(),
        folder=file.parent if file else None,
        free_space=listen.free_space,
        log_level=logging.getLogger("mailgate").getEffectiveLevel(),
    )


def listener_access(listen: Listen, settings: Settings) -> ListenerAccess:
    """Return where to listen, and for whom."""
    from engine.adapters.smtp_listener_access import ListenerAccess
    from engine.adapters.smtp_reception import Terms

    secured = listen.tls_cert is not None and listen.tls_key is not None
    return ListenerAccess(
        addresses=[(str(address.host), address.port) for address in listen.addresses],
        terms=Terms(
            hostname=settings.gateway.hostname,
            rules=_rules(listen, settings),
            max_size_octets=listen.max_size,
            max_recipients=listen.max_recipients,
            offers_tls=secured,
        ),
        users={name: secret.reveal for name, secret in listen.users.items()},
        variables=_variables(listen.users.values()),
        certificate=(str(listen.tls_cert), str(listen.tls_key)) if secured else None,
        connections=listen.connections,
        per_address=listen.connections_per_address,
    )


def _variables(secrets: Collection[Secret]) -> tuple[str, ...] | None:
    """The variables of the environment where secrets are; None where commands give them, which may need any."""
    if any(secret.kind == "command" for secret in secrets):
        return None
    return tuple(secret.source for secret in secrets if secret.kind == "env")


def _rules(listen: Listen, settings: Settings) -> Rules:
    return Rules(
        allow=listen.allow,
        inbound=listen.inbound,
        domains=settings.gateway.domains,
        postmaster=settings.gateway.postmaster,
        senders=dict(listen.senders),
        has_users=bool(listen.users),
    )


def mail_servers(settings: NextHopSettings, hostname: str) -> MailServers:
    """Return who knows the mail servers of a domain. Raises OSError where there are no DNS servers."""
    from engine.adapters.mx import MailServers  # and with it a library that most gateways don't need

    nameservers = tuple((address.host, address.port) for address in settings.nameservers)
    return MailServers(nameservers, hostname, settings.port)


def pollable(mailbox: Mailbox) -> Pollable:
    """Return a mailbox as the fetcher has it."""
    remove = mailbox.remove
    plan = MailboxPlan(
        name=mailbox.name,
        rule=mailbox_rule(mailbox),
        removal=Removal(
            when=remove.when,
            after=timedelta(seconds=remove.after_seconds) if remove.after_seconds is not None else None,
            oversize=mailbox.oversize == "remove",
        ),
        notify_oversize=mailbox.oversize != "keep",
        max_size_octets=mailbox.max_size,
    )
    every = timedelta(seconds=mailbox.poll_every)
    return Pollable(plan=plan, host=mailbox.host, every=every, open=partial(open_mailbox, mailbox))
