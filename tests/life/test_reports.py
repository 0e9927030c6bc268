"""Whole lives of outgoing mail, with the gateway as a process: what the smart host refuses, its sender reads; what comes
back later is on record."""

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

import migrations
from engine import clock
from engine.ports import Submission
from engine.settings import load
from engine.wiring import policy_of
from store import log
from store.database import open_store, writing
from store.log import Unit
from tests.engine.bounces import Bounced, exchange, postfix
from tests.engine.situations import opened_by
from tests.life.house import House, house, mail
from tests.peers.smtpd import EXTENSIONS, HomePeer
from tests.peers.thread import PeerThread

ANNA = "anna@example.com"
BOB = "bob@customer.example"
ROUTES = """
[next_hop.smart]
host = "127.0.0.1"
port = {port}
tls = "none"

[[route]]
recipients = ["*@example.com"]
next_hop = "home"
[[route]]
recipients = ["*"]
next_hop = "smart"
"""


@dataclass
class Office:
    """A house with a smart host."""

    house: House
    smart: HomePeer

    def submit(self, octets: bytes, *recipients: str, ago: timedelta = timedelta(), **facts: Any) -> str:
        """Put a message into the store as a listener does; returns its id."""
        self.house.write()
        policy = policy_of(load(self.house.config))
        usual = {
            "peer": "192.0.2.9",
            "helo": "exchange.example.com",
            "protocol": "ESMTP",
            "tls": "none",
            "user": None,
            "reverse_path": ANNA,
        }
        submission = Submission(recipients=recipients, **usual | facts)
        append = asyncio.run(opened_by(submission, octets, policy, clock.now() - ago))
        engine = open_store(self.house.store_url)
        try:
            migrations.upgrade(engine)
            with writing(engine) as connection:
                assert log.append(connection, [Unit((append,))]) == [None]
        finally:
            engine.dispose()
        return append.stream

    def reports(self) -> list[EmailMessage]:
        """What the home server has for whoever sent it."""
        found = [message_from_bytes(octets, policy=SMTP) for octets in self.house.notices()]
        assert all(isinstance(one, EmailMessage) for one in found)
        return found  # type: ignore[return-value]

    def shown(self, stream: str) -> str:
        done = self.house.run("show", stream)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())


@pytest.fixture
def office(tmp_path: Path, database_url: str) -> Iterator[Office]:
    with opened(tmp_path, database_url) as found:
        yield found
        assert found.house.problems() == []


@contextmanager
def opened(folder: Path, url: str) -> Iterator[Office]:
    smart = HomePeer(hostname="smart.example", extensions=(*EXTENSIONS, "DSN"))
    with house(folder, url) as one, PeerThread(smart) as port:
        one.more = ROUTES.format(port=port)
        yield Office(one, smart)


def test_what_the_smart_host_refuses_its_sender_reads_at_home(office: Office) -> None:
    office.smart.fault("rcpt", "reply", code=550, text="5.1.1 no such user", times=None)
    stream = office.submit(mail(1), BOB, envid="QQ1", ret="FULL")
    assert office.house.run("run", "--once").returncode == 0
    (report,) = office.reports()
    assert (report["To"], report.get_content_type()) == (ANNA, "multipart/report")
    text, status, returned = report.iter_parts()
    assert "no such address there" in text.get_content()
    of_message, of_bob = status.get_payload()
    assert of_message["Original-Envelope-Id"] == "QQ1"
    assert (of_bob["Final-Recipient"], of_bob["Status"]) == (f"rfc822; {BOB}", "5.1.1")
    assert returned.get_payload(0)["Message-ID"] == "<1@elsewhere.example>"
    shown = office.shown(stream)
    assert "reported by a notice (failure)" in shown
    (notice,) = (row["id"] for row in office.house.json("list") if row["direction"] == "internal")
    assert notice in shown
    assert f"About message {stream}" in office.shown(notice)
    told = office.house.run("explain", stream).stdout
    assert re.search(rf"Told +\S+ \S+ {ANNA} \(failure\), by\s+message {notice}", told)


def test_what_waits_for_long_is_told_once_and_goes_on(office: Office) -> None:
    office.smart.fault("rcpt", "reply", code=451, text="4.7.1 greylisted", times=2)
    stream = office.submit(mail(1), BOB, ago=timedelta(hours=4))
    assert office.house.run("run", "--once").returncode == 1
    (report,) = office.reports()
    assert report["Subject"] == "Delayed: number 1"
    while office.house.run("run", "--once").returncode:
        pass
    assert len(office.reports()) == 1
    assert "relayed to smart" in office.shown(stream)


def test_a_report_in_the_mailbox_is_recorded_on_its_message_and_delivered(office: Office) -> None:
    stream = office.submit(mail(1), BOB)
    assert office.house.run("run", "--once").returncode == 0
    (said,) = (command.argument for command in office.smart.said("MAIL"))
    assert f" ENVID={stream}@gate.example.com" in said
    about = Bounced(id=stream, sender=ANNA, recipient=BOB, message_id="<1@elsewhere.example>")
    for octets in (exchange(replace(about, id="06h0kps6zzzzzzzz")), postfix(about)):
        office.house.provider.put("info", octets)
    assert office.house.run("run", "--once").returncode == 0
    (row,) = (row for row in office.house.json("list") if row["id"] == stream)
    assert row["state"] == "failed"
    (event,) = (e for e in office.house.json("events", "--event", "failed") if e["stream"] == stream)
    assert (event["data"]["reason"], event["data"]["code"]) == ("bounced-later", 550)
    shown = office.shown(stream)
    assert f"report {event['data']['report']} came back later" in shown
    assert len(office.house.home.ledger) == 2  # both reports, and nobody is told a second time


@pytest.mark.parametrize("seam", ["before-commit failed", "after-commit failed", "answered"])
def test_a_gateway_killed_about_its_report_tells_it_once(seam: str, office: Office) -> None:
    office.smart.fault("rcpt", "reply", code=550, text="5.1.1 no such user", times=None)
    stream = office.submit(mail(1), BOB)
    killed = office.house.run("run", "--once", seam=seam)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert office.house.run("run", "--once").returncode == 0
    assert len(office.reports()) == 1
    reported = [e for e in office.house.json("events", "--event", "reported") if e["stream"] == stream]
    assert len(reported) == 1
