"""A house that listens: its gateway as a process, and clients that submit to it."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.engine.rig import without_trace
from tests.life.gateway import Gateway, running
from tests.life.house import House
from tests.peers.raw import RawClient

ROUTE = '[[route]]\nrecipients = ["*"]\nnext_hop = "home"\n'
SENDER, FOREIGN = "anna@example.com", "bob@customer.example"
LISTENING = re.compile(r"listening on (?:127\.0\.0\.1|\[::1\]):(\d+)")


def letter(number: int, size_octets: int = 0) -> bytes:
    """One message as a home server hands it over; each has another content."""
    head = f"From: {SENDER}\r\nTo: {FOREIGN}\r\nSubject: letter {number}\r\nMessage-ID: <{number}@example.com>\r\n\r\n"
    body = f".leading dot {number}\r\n".encode()
    return head.encode() + body + b"y" * max(0, size_octets - len(head) - len(body) - 2) + b"\r\n"


def listens(house: House, **keys: Any) -> None:
    """Let a house listen on a free port."""
    table = {"address": "127.0.0.1:0", **keys}
    lines = "".join(f"{name} = {_toml(value)}\n" for name, value in table.items())
    house.more = f"{ROUTE}[listen]\n{lines}"


@contextmanager
def submitting(house: House, *arguments: str) -> Iterator[tuple[Gateway, int]]:
    """Run the gateway; yields it and the port it listens on."""
    with running(house, *arguments) as gateway:
        yield gateway, port_of(gateway)


def port_of(gateway: Gateway) -> int:
    """The first port it says it listens on."""
    gateway.says("listening on ")
    found = LISTENING.search(gateway.log)
    assert found is not None
    return int(found[1])


def submit(port: int, octets: bytes, recipients: Sequence[str] = (FOREIGN,), sender: str = SENDER) -> str:
    """Hand one message over on a connection of its own; returns the reply to the final dot."""
    with RawClient(port) as client:
        return transaction(client, octets, recipients, sender, hello=True).decode()


def transaction(
    client: RawClient,
    octets: bytes,
    recipients: Sequence[str] = (FOREIGN,),
    sender: str = SENDER,
    *,
    hello: bool = False,
) -> bytes:
    """One transaction, command by command; returns the last reply."""
    if hello:
        assert client.reply().startswith(b"220 ")
        assert ask(client, b"EHLO home.example").startswith(b"250-")
    assert ask(client, b"MAIL FROM:<%s>" % sender.encode()).startswith(b"250 2.1.0")
    for recipient in recipients:
        assert ask(client, b"RCPT TO:<%s>" % recipient.encode()).startswith(b"250 2.1.5")
    assert ask(client, b"DATA").startswith(b"354 ")
    stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    client.say(stuffed + b".\r\n")
    return client.reply()


def ask(client: RawClient, line: bytes) -> bytes:
    """Send a command; return the whole reply."""
    client.say(line + b"\r\n")
    return client.reply()


@contextmanager
def logged_in(port: int, name: str, password: str, context: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    """A session under TLS with a user. Raises what smtplib raises."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as session:
        session.starttls(context=context)
        session.login(name, password)
        yield session


def sent(house: House) -> Counter[bytes]:
    """What arrived behind the gateway, without its trace; how often each."""
    return Counter(without_trace(taken.octets) for taken in house.home.ledger)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)
