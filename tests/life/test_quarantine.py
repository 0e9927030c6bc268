"""The quarantine through the front door: found by a scanner, told, let go or gone by its age."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path

import pytest

from engine import clock
from tests.build import Builder
from tests.life.gateway import running
from tests.life.house import House, house, mail, original
from tests.peers.clamd_peer import ClamdPeer
from tests.peers.scanner_peer import EICAR
from tests.peers.thread import PeerThread

BAD = mail(1) + EICAR + b"\r\n"
GOOD = mail(2)


@pytest.fixture
def clamd() -> ClamdPeer:
    return ClamdPeer()


@pytest.fixture
def guarded(tmp_path: Path, database_url: str, clamd: ClamdPeer) -> Iterator[House]:
    """A house with a clamd, and whoever is concerned hears of what it finds."""
    with house(tmp_path, database_url) as opened, PeerThread(clamd) as port:
        opened.more = (
            f'[[scanner]]\nkind = "clamd"\naddress = "127.0.0.1:{port}"\n'
            "[quarantine]\nnotify_recipients = true\n"
        )
        opened.make_store()
        yield opened


def texts(house: House, recipient: str) -> list[str]:
    """The notices that somebody got."""
    taken = (one.octets for one in house.home.taken_for(recipient) if not one.reverse_path)
    return [str(message_from_bytes(octets, policy=SMTP).get_content()) for octets in taken]


def delivered(house: House) -> list[bytes]:
    return [original(one.octets) for one in house.home.ledger if one.reverse_path]


def test_what_is_infected_is_kept_its_recipient_told_and_a_person_lets_it_go(
    guarded: House, clamd: ClamdPeer
) -> None:
    for octets in (BAD, GOOD):
        guarded.provider.put("info", octets)
    assert guarded.run("run", "--once").returncode == 1  # something is open
    assert delivered(guarded) == [GOOD]
    (kept,) = guarded.json("quarantine", "list")
    assert (kept["quarantined_why"], kept["state"]) == ("infected", "quarantined")
    (told,) = texts(guarded, "info@example.com")
    assert f"(message {kept['id']})" in told
    assert "Eicar-Test-Signature" in told
    assert EICAR.decode() not in told
    shown = guarded.run("quarantine", "show", kept["id"]).stdout
    assert "clamd: infected Eicar-Test-Signature" in " ".join(shown.split())

    with running(guarded) as gateway:  # beside a gateway that runs
        released = guarded.run("quarantine", "release", kept["id"], "--reason", "a test file")
        assert released.returncode == 0
        assert "released from quarantine; goes to home" in released.stdout
        guarded.home.wait_until(lambda: len(guarded.home.ledger) == 3)
        assert gateway.stop() == 0
    assert delivered(guarded)[-1].startswith(b"X-Mailgate-Released: from quarantine (infected) by ")
    assert delivered(guarded)[-1].endswith(b"\r\n" + BAD)
    assert len(clamd.questions("INSTREAM")) == 2
    assert len(texts(guarded, "info@example.com")) == 1
    assert guarded.run("run", "--once").returncode == 0
    assert guarded.run("quarantine", "list").stdout == "nothing is in quarantine\n"
    assert guarded.problems() == []


def test_what_is_in_quarantine_for_too_long_goes_with_its_octets_and_keeps_its_story(guarded: House) -> None:
    guarded.provider.put("info", BAD)
    assert guarded.run("run", "--once").returncode == 1
    (kept,) = guarded.json("quarantine", "list")
    assert guarded.run("run", "--once").returncode == 1
    guarded.more += '[retention]\nquarantined = "1s"\n'
    assert guarded.run("run", "--once").returncode == 0
    (gone,) = guarded.json("list", "--state", "discarded")
    assert (gone["id"], gone["content"]) == (kept["id"], kept["content"])
    raw = guarded.run("raw", kept["id"])
    assert (raw.returncode, raw.stdout) == (1, "")
    assert "were dropped on " in raw.stderr
    assert "by retention.quarantined: 1s" in raw.stderr
    again = guarded.run("replay", kept["id"], "--yes")
    assert again.returncode == 1
    assert "the octets were dropped on" in again.stdout + again.stderr
    assert "Eicar-Test-Signature" in guarded.run("quarantine", "show", kept["id"]).stdout
    assert guarded.problems() == []


def test_held_spam_is_told_in_the_digest_of_the_day_once(guarded: House, database_url: str) -> None:
    builder = Builder(database_url, clock.now() - timedelta(days=2))
    spam = builder.downloaded(subject="Buy, buy")
    builder.scanned(spam, "spam", scanner="spamd", score=15.5)
    builder.quarantined(spam, "spam", rule="spamd says spam", scanner="spamd")
    builder.close()
    guarded.more += 'digest = "00:00"\n'
    for _ in range(2):
        assert guarded.run("run", "--once").returncode == 1
        (told,) = texts(guarded, "info@example.com")
        assert f"id {spam}, score 15.5" in told
    (kept,) = guarded.json("quarantine", "list")
    assert kept["id"] == spam
