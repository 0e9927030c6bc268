"""A real Postfix as the provider's smart host, under TLS: what it takes, what it refuses, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.life.house import House, house
from tests.life.submitting import SENDER, letter, submit, submitting
from tests.peers.certificates import write_certificate_and_key
from tests.peers.smtpd import HomePeer
from tests.peers.thread import PeerThread
from tests.real.postfix import Postfix

TAKEN, REFUSED = "bob@customer.example", "nobody@customer.example"
ROUTES = """
[listen]
address = "127.0.0.1:0"
[next_hop.provider]
host = "127.0.0.1"
port = {port}
tls = "required"
tls_ca = "{ca}"
[[route]]
recipients = ["*@example.com"]
next_hop = "home"
[[route]]
recipients = ["*"]
next_hop = "provider"
"""


@pytest.fixture
def opened(
    tmp_path: Path, database_url: str, start_postfix: Callable[..., Postfix]
) -> Iterator[tuple[House, Postfix]]:
    provider = start_postfix(refusals={REFUSED: "550 5.1.1 no such person"})
    certificate, _ = write_certificate_and_key(tmp_path)
    with house(tmp_path, database_url) as opened:
        opened.more = ROUTES.format(port=provider.port, ca=certificate)
        opened.make_store()
        yield opened, provider


@pytest.mark.real
def test_what_the_smart_host_takes_is_relayed_and_what_it_refuses_comes_back(
    opened: tuple[House, Postfix],
) -> None:
    at_home, provider = opened
    with submitting(at_home) as (gateway, port):
        for number in range(5):
            assert submit(port, letter(number), (TAKEN,)).startswith("250 ")
        assert submit(port, letter(5), (TAKEN, REFUSED)).startswith("250 ")
        delivered = provider.delivered(at_least=6)
        at_home.home.wait_until(lambda: at_home.home.ledger)
        assert gateway.stop() == 0

    for number in range(6):
        line = b".leading dot %d\n" % number
        assert sum(line in octets for octets in delivered) == 1
    rows = at_home.json("list", "--direction", "outbound")
    fates = {(one["address"], one["state"]) for row in rows for one in row["recipients"]}
    assert fates == {(TAKEN, "relayed"), (REFUSED, "failed")}
    (report,) = at_home.home.ledger
    assert (report.reverse_path, report.recipients) == ("", (SENDER,))
    told = message_from_bytes(report.octets)
    assert told.get_content_type() == "multipart/report"
    assert REFUSED in report.octets.decode()
    assert "no such person" in report.octets.decode()
    shown = at_home.run("show", next(row["id"] for row in rows if len(row["recipients"]) == 2))
    assert "TLSv1" in shown.stdout
    assert at_home.problems() == []


@pytest.mark.real
def test_a_header_in_utf8_passes_a_smart_host_to_a_server_without_smtputf8(
    tmp_path: Path, sqlite_url: str, start_postfix: Callable[..., Postfix]
) -> None:
    old = HomePeer(extensions=("PIPELINING", "8BITMIME"))
    with PeerThread(old) as old_port, house(tmp_path, sqlite_url) as at_home:
        provider = start_postfix(relay_port=old_port)
        certificate, _ = write_certificate_and_key(tmp_path)
        at_home.more = ROUTES.format(port=provider.port, ca=certificate)
        with submitting(at_home) as (gateway, port):
            octets = letter(1).replace(b"Subject: letter", "Subject: Grüße".encode())
            assert submit(port, octets, (TAKEN,)).startswith("250 ")
            old.wait_until(lambda: old.ledger)
            assert gateway.stop() == 0
    (taken,) = old.ledger
    assert taken.reverse_path == SENDER
    assert "Subject: Grüße 1\r\n".encode() in taken.octets
