"""The scanners that are configured, made from their settings. Holds no rule of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from engine.adapters.asker_words import Brief
from engine.asking import Asking
from engine.core.verdict import ScannerPolicy
from engine.elsewhere import Elsewhere
from engine.ports import Scanner
from engine.scanner_post import ScannerPost
from engine.scanner_standing import ScannerStanding
from engine.settings import ScannerSettings
from engine.settings.scanner import MAX_SIZE


def posts_of(
    settings: Sequence[ScannerSettings], policies: Sequence[ScannerPolicy], now: Callable[[], datetime]
) -> Mapping[str, ScannerPost]:
    """Return every scanner with its standing, by name."""
    return {
        one.name: ScannerPost(
            scanner(one),
            decided,
            connections=one.connections,
            timeout_seconds=one.timeout_seconds,
            now=now,
        )
        for one, decided in zip(settings, policies, strict=True)
    }


def asking_of(
    settings: Sequence[ScannerSettings],
    policies: Sequence[ScannerPolicy],
    now: Callable[[], datetime],
    log_level: int,
) -> Asking:
    """Return what asks these scanners for a gateway: a process of its own."""
    standings = {
        one.name: ScannerStanding(decided, connections=one.connections, now=now)
        for one, decided in zip(settings, policies, strict=True)
    }
    brief = Brief(scanners=tuple(settings), policies=tuple(policies), log_level=log_level)
    return Elsewhere(brief, standings)


def scanner(settings: ScannerSettings) -> Scanner:
    """Return the adapter for a scanner. Only what is configured is imported: a gateway without scanners pays nothing."""
    if settings.kind == "attachments":
        return _attachments(settings)
    assert settings.address is not None  # the settings see to it
    if settings.kind == "clamd":
        from engine.adapters.clamd_scanner import ClamdScanner

        return ClamdScanner(settings.name, settings.address)
    if settings.kind == "spamd":
        from engine.adapters.spamd_scanner import SpamdScanner

        return SpamdScanner(settings.name, settings.address)
    from engine.adapters.rspamd_scanner import RspamdScanner

    return RspamdScanner(settings.name, settings.address)


def _attachments(settings: ScannerSettings) -> Scanner:
    from engine.adapters.attachment_scanner import AttachmentScanner
    from engine.core.attachments import Rules

    return AttachmentScanner(
        settings.name,
        Rules(settings.names, settings.types),
        archives=settings.archives,
        timeout_seconds=settings.timeout_seconds,
        max_octets=settings.max_size or MAX_SIZE["attachments"],
    )
