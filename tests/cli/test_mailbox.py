"""`mailgate mailbox`: health, polls on demand, and taking what is there as seen."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.person import operator
from tests.cli.command import Mailgate
from tests.cli.installation import LETTER, PROCESS_SECONDS, Installation, installed
from tests.peers.pop3d import Pop3Peer

HOURLY = 'poll_every = "1h"'


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


def health(house: Installation, name: str = "info", code: int = 0) -> dict[str, Any]:
    rows = {row["name"]: row for row in house.rows("mailbox", "list", code=code)}
    return rows[name]


def recorded(house: Installation, event: str) -> list[dict[str, Any]]:
    return house.rows("events", "--event", event)


# -- list


def test_a_mailbox_is_new_then_ok_then_failing(tmp_path: Path, sqlite_url: str) -> None:
    with installed(tmp_path, sqlite_url, users="info sales") as house:
        house.make_store()
        assert [row["health"] for row in house.rows("mailbox", "list")] == ["new", "new"]
        house.put(2)
        house.mailbox.mailboxes["sales"].password = "another"
        house.mailgate("run", "--once", code=1)
        info, sales = house.rows("mailbox", "list", code=1)
        assert (info["health"], info["downloaded"], info["present"]) == ("ok", 2, 0)
        assert (sales["health"], sales["kind"], sales["permanent"]) == ("failing", "auth", True)
        said = house.mailgate("mailbox", "list", code=1)
        assert "sales: auth: the server refused the login" in said
        assert "'mailgate check --connect'" in said
        house.configure(users="info")
        said = house.mailgate("mailbox", "list", code=1)
        assert "not configured" in said


def test_a_message_without_a_unique_id_is_named_as_what_it_is(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    house.put(2)
    house.mailbox.fault("uidl", "omit", number=2, times=None)
    size = len(house.mailbox.mailboxes["info"].messages[-1].octets)
    told = f"the server lists a message without a unique id ({size:,} octets): it can't be fetched"
    house.mailgate("mailbox", "poll", "info", code=1)
    (one,) = health(house, code=1)["withheld"]
    assert (one["uidl"], one["lacks"]) == ("", "uidl")
    assert told in " ".join(house.mailgate("mailbox", "list", code=1).split())
    assert told in " ".join(house.mailgate("check", "--connect").split())


def test_what_the_server_refuses_to_delete_is_named_and_explained(house: Installation) -> None:
    house.put(22)
    house.mailbox.fault("dele", "err", text="read-only", times=None)
    house.mailgate("run", "--once")
    row = health(house, code=1)
    assert (row["health"], row["withheld"], len(row["undeleted"]), row["more_undeleted"]) == ("ok", [], 20, 2)
    one = row["undeleted"][0]
    said = " ".join(house.mailgate("mailbox", "list", code=1).split())
    assert f"refuses to delete a message (UIDL {one['uidl']}, {one['size_octets']} octets): read-only" in said
    assert "info: and 2 more" in said
    said = " ".join(house.mailgate("explain", one["message"]).split())
    assert "Removal the server refuses to delete it, since" in said
    house.mailbox.heal()
    house.mailgate("run", "--once")
    assert health(house)["undeleted"] == []
    assert "refuses" not in house.mailgate("explain", one["message"])


def test_a_message_that_is_listed_and_not_given_is_named_by_its_uidl(house: Installation) -> None:
    house.put(3)
    refused, *_ = house.mailbox.uidls("info")
    house.mailbox.fault("retr", "err", text="damaged", matching=refused, times=None)
    assert "1 open" not in house.mailgate("mailbox", "poll", "info", code=1)
    row = health(house, code=1)
    (one,) = row["withheld"]
    assert (one["uidl"], one["breaks"], one["text"]) == (refused, False, "damaged")
    assert (row["health"], row["downloaded"]) == ("ok", 2)
    said = " ".join(house.mailgate("mailbox", "list", code=1).split())
    assert f"the server refuses a message (UIDL {refused}, {one['size_octets']} octets): damaged" in said

    house.put(1)
    last = house.mailbox.uidls("info")[-1]
    house.mailbox.fault("retr", "drop-mid", matching=last, times=None)
    said = " ".join(house.mailgate("mailbox", "poll", "info", code=1).split())
    assert f"the session breaks at a message (UIDL {last}," in said
    withheld = {one["uidl"]: one["breaks"] for one in health(house, code=1)["withheld"]}
    assert withheld == {refused: False, last: True}
    polls = len(recorded(house, "poll-finished"))
    house.mailgate("mailbox", "poll", "info", code=1)
    assert len(recorded(house, "poll-finished")) == polls


# -- poll


def test_without_a_gateway_a_poll_happens_here(house: Installation) -> None:
    house.put(2)
    said = house.mailgate("mailbox", "poll", "info")
    assert "info: 2 downloaded, 0 known in the mailbox" in said
    assert len(house.home.ledger) == 2
    house.mailbox.fault("pass", "err", text="[AUTH] no", times=None)
    said = house.mailgate("mailbox", "poll", "--all", code=1)
    assert "auth: the server refused the login" in said


def test_only_the_named_mailboxes_are_polled(tmp_path: Path, sqlite_url: str) -> None:
    with installed(tmp_path, sqlite_url, users="info sales") as house:
        house.put(1, "info")
        house.put(1, "sales")
        house.mailgate("mailbox", "poll", "sales")
        assert [entry.recipients for entry in house.home.ledger] == [("sales@example.com",)]


def test_a_gateway_that_runs_is_asked_to_poll(database_url: str, tmp_path: Path) -> None:
    with installed(tmp_path, database_url) as house:
        house.configure(mailbox=HOURLY)
        house.make_store()
        with house.running():
            house.mailbox.wait_until(lambda: any(s.closed_at_seconds for s in house.mailbox.sessions))
            while health(house)["polling"]:
                pass  # the first poll's end is recorded just after its session's
            house.put()
            assert "info: the gateway polls it now" in house.mailgate("mailbox", "poll", "info")
            house.home.wait_until(lambda: len(house.home.ledger) == 1)


def test_what_the_gateway_s_poll_came_to_is_said(
    house: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.configure(mailbox=HOURLY)
    with house.running():
        house.mailbox.wait_until(lambda: any(s.closed_at_seconds for s in house.mailbox.sessions))
        while health(house)["polling"]:
            pass
        house.put(2)
        assert "info: 2 downloaded, " in house.mailgate("mailbox", "poll", "info")
        house.mailbox.fault("pass", "err", text="[AUTH] no", times=None)
        for _ in range(2):  # the second time it fails already
            said = house.mailgate("mailbox", "poll", "--all", code=1)
            assert "auth: the server refused the login" in said
        house.mailbox.heal()
        assert "info: 0 downloaded" in house.mailgate("mailbox", "poll", "info")
        slow = house.mailbox.fault("uidl", "stall")
        monkeypatch.setattr("cli.poll.PATIENCE_SECONDS", 2.0)
        done = Mailgate(house.folder)("mailbox", "poll", "info")
        assert done.code == 0
        assert "info: is not through yet" in done.out
        slow.release()


def test_names_are_checked_before_anything_is_done(house: Installation) -> None:
    assert "did you mean 'info'?" in house.mailgate("mailbox", "poll", "inof", code=2)
    assert "did you mean 'info'?" in house.mailgate("mailbox", "adopt", "inof", "--yes", code=2)
    assert "--all" in house.mailgate("mailbox", "poll", code=2)
    assert "--all" in house.mailgate("mailbox", "poll", "info", "--all", code=2)
    assert house.mailbox.sessions == []


# -- adopt


def test_what_is_adopted_is_neither_fetched_nor_deleted(database_url: str, tmp_path: Path) -> None:
    with installed(tmp_path, database_url) as house:
        house.put(3)
        house.make_store()
        said = house.mailgate("mailbox", "adopt", "info", "--yes", "--reason", "moved from the old gateway")
        assert "3 listed, 0 of them known" in said
        assert "info: 3 adopted" in said
        house.put(1)
        house.mailgate("run", "--once")
        assert len(house.home.ledger) == 1
        assert len(house.mailbox.uidls("info")) == 3
        (event,) = recorded(house, "adopted")
        assert event["data"]["reason"] == "moved from the old gateway"
        assert event["data"]["operator"] == operator()
        assert "there is nothing to adopt" in house.mailgate("mailbox", "adopt", "info", "--yes")
        assert len(recorded(house, "adopted")) == 1


def test_a_large_mailbox_is_adopted_in_several_events(house: Installation) -> None:
    house.put(2_500)
    assert "info: 2,500 adopted" in house.mailgate("mailbox", "adopt", "info", "--yes")
    assert [len(event["data"]["uidls"]) for event in recorded(house, "adopted")] == [1_000, 1_000, 500]
    house.mailgate("run", "--once")
    assert house.mailbox.retrievals() == []


def test_known_messages_are_left_as_they_are(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    house.put(2)
    house.mailgate("run", "--once")
    house.put(1)
    said = house.mailgate("mailbox", "adopt", "info", "--yes")
    assert "3 listed, 2 of them known" in said
    assert "info: 1 adopted" in said
    assert health(house)["present"] == 3


def test_adopting_ends_the_suspicion_of_a_uidl_reset(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    house.put(8)
    house.mailgate("run", "--once")
    messages = house.mailbox.mailboxes["info"].messages
    letters = [message.octets for message in messages]
    messages.clear()
    for number, octets in enumerate(letters):
        house.mailbox.put("info", octets, uidl=f"other-{number}")
    house.mailgate("run", "--once", code=1)
    assert health(house, code=1)["health"] == "suspended"
    assert "mailgate mailbox adopt info" in house.mailgate("mailbox", "list", code=1)
    said = house.mailgate("mailbox", "adopt", "info", "--yes")
    assert "info: 8 adopted, 8 recorded as gone" in said
    assert health(house)["health"] == "ok"
    house.put(1)
    house.mailgate("run", "--once")
    assert health(house)["health"] == "ok"
    arrived = house.home.ledger
    assert (
        sum(bool(one.reverse_path) for one in arrived) == 9
    )  # the eight of before once each, and the new one
    notices = [one for one in arrived if not one.reverse_path]
    assert [one.recipients for one in notices] == [
        ("postmaster@example.com",)
    ] * 2  # suspended, and well again
    assert len(recorded(house, "uidl-reset-suspected")) == 1


def test_a_uidl_that_is_listed_twice_is_adopted_twice(house: Installation) -> None:
    for number in range(2):
        house.mailbox.put("info", LETTER % number + b"x" * number, uidl="same")
    assert "info: 2 adopted" in house.mailgate("mailbox", "adopt", "info", "--yes")
    house.mailgate("run", "--once")
    assert house.mailbox.retrievals() == []


def test_a_server_without_uidl_has_nothing_to_adopt(tmp_path: Path, sqlite_url: str) -> None:
    with installed(tmp_path, sqlite_url, mailbox=Pop3Peer(without=("UIDL",))) as house:
        house.put()
        assert "the server has no UIDL" in house.mailgate("mailbox", "adopt", "info", "--yes", code=1)


def test_a_login_that_fails_adopts_nothing(house: Installation) -> None:
    house.mailbox.mailboxes["info"].password = "another"
    assert "refused the login" in house.mailgate("mailbox", "adopt", "info", "--yes", code=1)
    assert house.rows("events", code=1) == []


def test_beside_a_running_gateway_both_never_poll_at_once(house: Installation) -> None:
    house.configure(mailbox=HOURLY)
    slow = house.mailbox.fault("uidl", "stall")
    with house.running():
        house.mailbox.wait_until(lambda: slow.fired)
        house.put(2)
        adopting = subprocess.Popen(
            house.command("mailbox", "adopt", "info", "--yes"),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=house.environment,
            cwd=house.folder,
        )
        assert adopting.stderr is not None
        assert "is being polled: waiting" in adopting.stderr.readline()
        assert len(house.mailbox.sessions) == 1
        slow.release()
        said, trouble = adopting.communicate(timeout=PROCESS_SECONDS)
        assert "info: 2 adopted" in said, said + trouble
        house.put(1)
        house.mailgate("mailbox", "poll", "info")
        house.home.wait_until(lambda: len(house.home.ledger) == 1)


class Terminal:
    """`mailgate` on a terminal of its own, for questions and answers."""

    def __init__(self, house: Installation, *words: str) -> None:
        self._mine, its = pty.openpty()
        self.process = subprocess.Popen(
            house.command(*words), stdin=its, stdout=its, stderr=its, env=house.environment, cwd=house.folder
        )
        os.close(its)
        self.said = ""

    def read_to(self, words: str) -> None:
        while words not in self.said:
            try:
                octets = os.read(self._mine, 4096)
            except OSError:  # the other end is closed
                octets = b""
            assert octets, self.said
            self.said += octets.decode()

    def answer(self, text: str) -> int:
        os.write(self._mine, text.encode() + b"\n")
        code = self.process.wait(PROCESS_SECONDS)
        os.close(self._mine)
        return code


def test_it_asks_first_and_mail_that_comes_meanwhile_is_not_adopted(house: Installation) -> None:
    assert "add --yes" in house.mailgate("mailbox", "adopt", "info", code=2)
    house.put(2)
    terminal = Terminal(house, "mailbox", "adopt", "info")
    terminal.read_to("Go on?")
    assert terminal.answer("n") == 1
    assert house.rows("events", code=1) == []
    terminal = Terminal(house, "mailbox", "adopt", "info")
    terminal.read_to("Go on?")
    house.put(1)
    assert terminal.answer("y") == 0
    house.mailgate("run", "--once")
    assert len(house.home.ledger) == 1


def test_a_person_is_never_taken_for_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    assert operator() == "anna"
    monkeypatch.setenv("SUDO_USER", "mailgate")
    assert operator() == "user mailgate"
