"""What the [[webhook]] tables come to: frozen settings, or the Fault that names the key to change. Reads no file, no secret."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.settings.addresses import http_url
from engine.settings.lines import Place
from engine.settings.login import absolute, secret_from
from engine.settings.reading import Fault, meant, nearest
from engine.settings.shapes import WebhookSettings
from engine.settings.tables import WebhookTable
from engine.settings.values import shown
from store.codec import CLASSES

UNNAMED: Final = "webhook"
LONGEST_TIMEOUT_SECONDS: Final = 30  # well within the lease: nobody else begins meanwhile


def webhooks(tables: Sequence[WebhookTable], folder: Path) -> tuple[WebhookSettings, ...]:
    """The webhooks, in the order of the file. Raises Fault."""
    found: list[WebhookSettings] = []
    for number, table in enumerate(tables):
        one = _webhook(("webhook", number), table, folder)
        if any(other.name == one.name for other in found):
            text = f"is {shown(one.name)} like that of another webhook: each needs a name of its own"
            raise Fault(("webhook", number, "name"), text)
        found.append(one)
    return tuple(found)


def _webhook(place: Place, table: WebhookTable, folder: Path) -> WebhookSettings:
    url = meant((*place, "url"), lambda: http_url(table.url))
    if table.tls_ca is not None and not url.tls:
        raise Fault((*place, "tls_ca"), "has no meaning with http://: write https://, or leave it out")
    if not 1 <= table.timeout <= LONGEST_TIMEOUT_SECONDS:
        raise Fault((*place, "timeout"), f'expected "1s" to "{LONGEST_TIMEOUT_SECONDS}s"')
    name = table.name or UNNAMED
    return WebhookSettings(
        name=name,
        url=url,
        secret=secret_from((*place, "secret"), table.secret, f"webhook '{name}': secret", folder),
        events=tuple(_event((*place, "events", n), written) for n, written in enumerate(table.events)),
        tls_ca=absolute(table.tls_ca, folder),
        timeout_seconds=float(table.timeout),
        connections=table.connections,
    )


def _event(place: Place, written: str) -> str:
    if written not in CLASSES:
        raise Fault(place, f"there is no event {shown(written)}; {nearest(written, tuple(CLASSES))}")
    return written
