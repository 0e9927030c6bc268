"""What is told in front of scanned mail, and what the home server's refusals of spam come to; through the front door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from store import contents, log
from store.database import open_store, reading
from tests.life.house import TRACE, House, house
from tests.life.submitting import submit, submitting
from tests.peers.clamd_peer import ClamdPeer
from tests.peers.scanner_peer import EICAR, GTUBE
from tests.peers.spamd_peer import SpamdPeer
from tests.peers.thread import PeerThread

SPAM_BOX = "spam-box@example.com"
REFUSAL = "5.7.1 Message rejected as spam by Content Filtering."
FORGED = (
    b"Received: from elsewhere.example by pop.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"X-Spam-Flag: NO\r\n"
    b"x-spam-status:\r\n\tNo, score=-100\r\n"
    b"Authentication-Results: (trust me) GATE.example.com;\r\n dkim=pass\r\n"
    b"Authentication-Results: mx.provider.example; spf=fail\r\n"
    b"X-MS-Exchange-Organization-SCL: -1\r\n"
    b"From: Mallory <m@elsewhere.example>\r\n"
    b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <forged@elsewhere.example>\r\n"
    b"\r\n"
    b"X-Spam-Flag: NO\r\n.dot\r\n"
)


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened


@pytest.fixture
def scanners(opened: House) -> Iterator[tuple[int, int]]:
    """The ports of a clamd and a spamd."""
    with ExitStack() as stack:
        yield stack.enter_context(PeerThread(ClamdPeer())), stack.enter_context(PeerThread(SpamdPeer()))


def asks(opened: House, kind: str, port: int, **keys: Any) -> None:
    """Add a scanner to the configuration."""
    written = "".join(f"{key} = {value}\n" for key, value in keys.items())
    opened.more += f'[[scanner]]\nkind = "{kind}"\naddress = "127.0.0.1:{port}"\n{written}'


def fetched(opened: House, octets: bytes, exit_code: int = 0) -> dict[str, Any]:
    """Put a message into the mailbox, run once, and return how it is listed."""
    opened.provider.put("info", octets)
    done = opened.run("run", "--once")
    assert done.returncode == exit_code, done.stderr
    return opened.json("list")[0]


def taken(opened: House) -> tuple[str, bytes]:
    """To whom the one message went, and its octets behind our trace."""
    (one,) = opened.home.ledger
    assert one.recipients
    return ",".join(one.recipients), TRACE.sub(b"", one.octets, count=1)


def test_spam_says_so_in_front_and_what_was_forged_is_renamed(
    opened: House, scanners: tuple[int, int], database_url: str
) -> None:
    asks(opened, "spamd", scanners[1], on_found='"tag"', scl=6, subject_prefix='"[SPAM]"')
    original = FORGED + GTUBE + b"\r\n"
    row = fetched(opened, original)
    _, octets = taken(opened)
    changed = original
    for name in (b"X-Spam-Flag: NO\r\nx-", b"x-spam-status", b"X-MS-Exchange"):
        changed = changed.replace(name, b"X-Old-" + name, 1)
    changed = changed.replace(b"Authentication-Results: (trust", b"X-Old-Authentication-Results: (trust")
    changed = changed.replace(b"Subject: ", b"Subject: [SPAM] ")
    assert octets == (
        b"X-Spam-Flag: YES\r\n"
        b"X-Spam-Score: 1000.0\r\n"
        b"X-Spam-Status: Yes, score=1000.0 required=5.0 tests=GTUBE scanner=spamd\r\n"
        b"X-MS-Exchange-Organization-SCL: 6\r\n" + changed
    )
    engine = open_store(database_url)
    with reading(engine) as connection:
        stored = log.message(connection, row["id"])
        assert stored is not None
        assert contents.get(connection, stored) == original
    engine.dispose()
    (shown,) = opened.json("show", row["id"])
    (attempted,) = [event["data"] for event in shown["events"] if event["name"] == "attempted"]
    assert attempted["tags"] == [
        "X-Spam-Flag",
        "X-Spam-Score",
        "X-Spam-Status",
        "X-MS-Exchange-Organization-SCL",
        "Subject",
    ]
    assert attempted["renamed"] == [
        "X-Spam-Flag",
        "x-spam-status",
        "Authentication-Results",
        "X-MS-Exchange-Organization-SCL",
    ]
    told = " ".join(opened.run("show", row["id"]).stdout.split())
    assert "in front: X-Spam-Flag, X-Spam-Score" in told
    assert "renamed to X-Old-…" in told
    assert opened.problems() == []


def test_a_large_message_is_told_apart_only_by_its_beginning(
    opened: House, scanners: tuple[int, int]
) -> None:
    asks(opened, "spamd", scanners[1], on_found='"tag"', on_unscannable='"tag"')
    original = FORGED.replace(b"\r\nFrom:", b"\nFrom:") + b"x" * 70 * 10_000
    fetched(opened, original)
    _, octets = taken(opened)
    assert octets.startswith(b"X-Spam-Status: Unscannable, scanner=spamd\r\nReceived: from elsewhere")
    behind = octets.partition(b"\r\n\r\n")[2]
    assert behind == original.partition(b"\r\n\r\n")[2] + b"\r\n"
    assert message_from_bytes(octets)["X-Spam-Flag"] is None


def test_what_is_spam_goes_to_the_address_named_for_it_and_to_nobody_else(
    opened: House, scanners: tuple[int, int]
) -> None:
    asks(opened, "spamd", scanners[1], on_found=f'"redirect:{SPAM_BOX}"')
    row = fetched(opened, FORGED + GTUBE + b"\r\n")
    recipients, octets = taken(opened)
    assert recipients == SPAM_BOX
    assert octets.startswith(b"X-Spam-Flag: YES\r\n")
    assert row["state"] == "delivered"
    assert [(one["address"], one["state"]) for one in row["recipients"]] == [
        ("info@example.com", "discarded"),
        (SPAM_BOX, "delivered"),
    ]
    told = " ".join(opened.run("show", row["id"]).stdout.split())
    assert "discarded for info@example.com: spamd says spam: score 1000 of 5" in told or (
        "discarded: spamd says spam: score 1000 of 5" in told
    )
    assert f"redelivery-requested for {SPAM_BOX}: spamd says spam: score 1000 of 5" in told
    explained = " ".join(opened.run("explain", row["id"]).stdout.split())
    assert "spamd says spam: score 1000 of 5" in explained
    assert opened.run("run", "--once").returncode == 0
    assert len(opened.home.ledger) == 1
    assert opened.provider.uidls("info") == []
    assert opened.problems() == []


def test_a_redirected_message_that_has_to_wait_stays_redirected(
    opened: House, scanners: tuple[int, int]
) -> None:
    asks(opened, "spamd", scanners[1], on_found=f'"redirect:{SPAM_BOX}"')
    opened.home.fault("rcpt", "reply", code=451, text="4.3.0 later")
    row = fetched(opened, FORGED + GTUBE + b"\r\n", exit_code=1)
    assert [one["state"] for one in row["recipients"]] == ["discarded", "deferred"]
    while opened.run("run", "--once").returncode:
        pass
    assert taken(opened)[0] == SPAM_BOX
    assert len(opened.json("list")[0]["recipients"]) == 2


def test_a_virus_that_is_to_be_discarded_goes_nowhere_and_nobody_is_told(
    opened: House, scanners: tuple[int, int]
) -> None:
    asks(opened, "clamd", scanners[0], on_found='"discard"')
    row = fetched(opened, FORGED + EICAR + b"\r\n")
    assert row["state"] == "discarded"
    assert opened.home.ledger == []
    told = " ".join(opened.run("show", row["id"]).stdout.split())
    assert re.search(r"discarded: clamd found \S+", told), told
    assert "decided that it goes nowhere" in told
    explained = " ".join(opened.run("explain", row["id"]).stdout.split())
    assert re.search(r"discarded: clamd found \S+", explained), explained
    assert opened.problems() == []


def test_a_virus_that_is_to_be_tagged_goes_on_with_its_name_in_front(
    opened: House, scanners: tuple[int, int]
) -> None:
    asks(opened, "clamd", scanners[0], on_found='"tag"')
    fetched(opened, FORGED + EICAR + b"\r\n")
    assert re.match(rb"X-Virus-Status: Infected, signature=\S+ scanner=clamd\r\n", taken(opened)[1])


def test_what_was_released_from_quarantine_says_so_and_is_not_called_spam(
    opened: House, scanners: tuple[int, int]
) -> None:
    asks(opened, "spamd", scanners[1], on_found='"quarantine"')
    opened.environment["SUDO_USER"] = "anna"
    original = FORGED + GTUBE + b"\r\n"
    row = fetched(opened, original, exit_code=1)
    assert row["state"] == "quarantined"
    assert opened.home.ledger == []
    assert opened.run("release", row["id"], "--reason", "a customer").returncode == 0
    assert opened.run("run", "--once").returncode == 0
    _, octets = taken(opened)
    first, _, rest = octets.partition(b"Received: from elsewhere.example")
    assert re.fullmatch(
        rb"X-Mailgate-Released: from quarantine \(spam\) by anna at [^\r]+(\r\n\t[^\r]+)?\r\n", first
    )
    assert octets.endswith(original)
    assert rest


def test_mail_that_the_home_server_refuses_as_spam_is_kept_and_may_be_let_go(opened: House) -> None:
    opened.home.fault("dot", "reply", code=550, text=REFUSAL, times=2)
    row = fetched(opened, FORGED, exit_code=1)
    assert row["state"] == "quarantined"
    assert row["recipients"][0]["reply"] == f"550 {REFUSAL}"
    assert opened.home.ledger == []  # no notice either
    told = " ".join(opened.run("show", row["id"]).stdout.split())
    assert (
        f'home takes it for spam (its refusal fits "5?? *as spam*" of spam_refusals): 550 {REFUSAL}' in told
    )
    assert opened.provider.uidls("info") != []

    assert opened.run("release", row["id"]).returncode == 0
    assert opened.run("run", "--once").returncode == 1
    assert opened.json("list")[0]["state"] == "quarantined"

    assert opened.run("release", row["id"]).returncode == 0
    assert opened.run("run", "--once").returncode == 0
    assert opened.json("list")[0]["state"] == "delivered"
    assert b"X-Mailgate-Released: from quarantine (refused-as-spam)" in taken(opened)[1]
    assert opened.problems() == []


def test_where_no_refusal_is_listed_it_fails_as_any_other(opened: House) -> None:
    opened.next_hop["spam_refusals"] = []
    opened.home.fault("dot", "reply", code=550, text=REFUSAL)
    opened.provider.put("info", FORGED)
    opened.run("run", "--once")
    assert [row["state"] for row in opened.json("list", "--direction", "inbound")] == ["failed"]


def test_what_goes_out_is_told_apart_like_what_comes_in(opened: House, scanners: tuple[int, int]) -> None:
    asks(opened, "spamd", scanners[1], on_found='"tag"', threshold=-1.0)
    opened.more += '[listen]\naddress = "127.0.0.1:0"\n[[route]]\nrecipients = ["*"]\nnext_hop = "home"\n'
    with submitting(opened) as (gateway, port):
        assert submit(port, FORGED, ("bob@customer.example",)).startswith("250 ")
        opened.home.wait_until(lambda: opened.home.ledger)
        assert gateway.stop() == 0
    (one,) = opened.home.ledger
    _, _, behind = one.octets.partition(b"+0000\r\n")
    assert behind.startswith(
        b"X-Spam-Flag: YES\r\nX-Spam-Score: 0.0\r\nX-Spam-Status: Yes, score=0.0 required=-1.0"
    )
    assert behind.partition(b"Received: ")[2].startswith(b"from elsewhere.example")
    assert behind.count(b"\r\nX-Old-") == 4
