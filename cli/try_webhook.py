"""Trying a webhook out: a test event is sent, signed like every other, and what the receiver answers is told."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta

from cli import times
from cli.trial import Trial, distrusted
from engine.adapters.webhook_sender import WebhookSender, WebhookTrouble
from engine.core import webhook
from engine.core.webhook import Answer
from engine.secrets import SecretError
from engine.settings import WebhookSettings


async def try_webhook(settings: WebhookSettings, hostname: str, at: datetime) -> Trial:
    """Send it; whatever goes wrong is in what is returned."""
    sender = WebhookSender(settings)
    event_id = os.urandom(32).hex()
    octets = webhook.body(
        {"stream": None, "name": webhook.PING, "at": at, "from": hostname, "hash": event_id}
    )
    began = time.monotonic()
    try:
        secret = await settings.secret.reveal()
        headers = webhook.headers(webhook.PING, event_id, settings.name, secret, at, octets)
        answer = await sender.post(headers, octets)
    except (SecretError, WebhookTrouble) as trouble:
        return Trial(ok=False, found=(str(trouble),), advice=_advice(str(trouble)))
    finally:
        await sender.close()
    return _answered(answer, timedelta(seconds=time.monotonic() - began))


def _answered(answer: Answer, took: timedelta) -> Trial:
    text = f": {answer.text}" if answer.text else ""
    said = f"a test event ({webhook.PING}) was answered with {answer.said} within {times.span(took)}{text}"
    refused = () if answer.taken else ("only a status from 200 to 299 says that an event was taken",)
    facts = {"status": answer.status, "text": answer.text}
    return Trial(ok=answer.taken, found=(said,), advice=refused, facts=facts)


def _advice(text: str) -> tuple[str, ...]:
    if "not trusted" in text:
        return distrusted(text, None)
    if "connect to" in text:
        return ("check the url, and whether a firewall lets this machine through; no proxy is used",)
    return ()
