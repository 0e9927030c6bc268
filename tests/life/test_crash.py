"""Killed at any seam, nothing is lost, and every duplicate is named.

SEAMS lists, in one place, the points of an inbound life between two effects. At each, the gateway is killed with SIGKILL
and started again; then the promises are checked from the outside: the mailbox, the home server's ledger, the log.
"""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.life.house import House, house, mail

MESSAGES = 20  # more than one connection has attempts ahead: theirs take several commits

# Where our own process is: around each commit, around the final dot, around DELE and QUIT.
SEAMS = (
    ("before-commit downloaded", 1),
    ("after-commit downloaded", 1),
    ("before-commit attempted", 1),
    ("after-commit attempted", 1),
    ("after-commit attempted", 2),
    ("before-dot", 1),
    ("before-dot", 4),
    ("answered", 1),
    ("before-commit delivered", 1),
    ("after-commit delivered", 1),
    ("after-commit delivered", 2),
    ("before-commit poll-finished", 1),
    ("before-commit marked-as-deleted", 1),
    ("before-dele", 1),
    ("before-quit", 1),
    ("after-quit", 1),
    ("before-commit removed-from-source", 1),
    ("after-commit removed-from-source", 1),
)
# Where the far side is: (which peer, at which stage, the how-manieth time).
FAR_SEAMS = (
    ("provider", "list", 1),
    ("provider", "retr", 1),
    ("provider", "retr", 4),  # between a commit and a later RETR
    ("provider", "dele", 1),
    ("provider", "dele", 4),
    ("provider", "quit", 1),
    ("provider", "quit-committed", 1),  # the deletions are done, the answer is not sent
    ("home", "mail", 1),
    ("home", "data", 2),
    ("home", "dot", 1),
    ("home", "dot-taken", 1),  # the message is theirs, and we don't know
    ("home", "dot-taken", 3),
)


@pytest.fixture
def full_house(tmp_path: Path, database_url: str):
    with house(tmp_path, database_url) as opened:
        opened.next_hop = {"connections": 1}  # so that commits come one after the other
        for number in range(MESSAGES):
            opened.provider.put("info", mail(number), uidl=f"uidl-{number}")
        opened.make_store()
        yield opened


@pytest.mark.parametrize(("seam", "count"), SEAMS)
def test_killed_at_a_seam_nothing_is_lost(full_house: House, seam: str, count: int) -> None:
    killed = full_house.run("run", "--once", seam=seam, count=count)
    assert killed.returncode == -signal.SIGKILL, (killed.returncode, killed.stderr)
    check_while_dead(full_house)

    finish(full_house)

    check_promises(full_house)


@pytest.mark.parametrize(("peer", "stage", "count"), FAR_SEAMS)
def test_killed_at_a_far_seam_nothing_is_lost(full_house: House, peer: str, stage: str, count: int) -> None:
    process: list[subprocess.Popen[str]] = []
    started = threading.Event()
    passed = 0

    def kill(_occasion: object) -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            started.wait(30)
            os.kill(process[0].pid, signal.SIGKILL)
            process[0].wait(30)

    (full_house.provider if peer == "provider" else full_house.home).on(stage, kill)
    process.append(full_house.start("run", "--once"))
    started.set()
    process[0].communicate(timeout=60)
    assert process[0].returncode == -signal.SIGKILL
    check_while_dead(full_house)

    finish(full_house)

    check_promises(full_house)


@pytest.mark.parametrize("seam", ["before-quit", "after-quit", "before-commit removed-from-source"])
def test_killed_at_quit_another_message_under_a_uidl_that_came_free_is_not_deleted_unread(
    tmp_path: Path, database_url: str, seam: str
) -> None:
    with house(tmp_path, database_url) as opened:
        opened.provider.put("info", mail(1, 600), uidl="1")
        opened.make_store()
        assert opened.run("run", "--once", seam=seam).returncode == -signal.SIGKILL
        opened.provider.mailboxes["info"].messages.clear()
        opened.provider.put("info", mail(2, 600), uidl="1")
        finish(opened)
        assert set(opened.arrived()) == {mail(1, 600), mail(2, 600)}
        assert opened.problems() == []


def check_while_dead(killed: House) -> None:
    """P1: what is no longer in the mailbox is in the store."""
    left = {message.uidl for message in killed.provider.mailboxes["info"].messages}
    gone = {f"uidl-{number}" for number in range(MESSAGES)} - left
    assert gone <= killed.durable()


def finish(killed: House) -> None:
    """Start again as often as a service manager would: a deferred attempt needs a second look."""
    for _ in range(6):
        done = killed.run("run", "--once")
        assert done.returncode in (0, 1), done.stderr
        if done.returncode == 0 and not killed.provider.mailboxes["info"].messages:
            return
    pytest.fail(f"still open: {done.stderr}")


def check_promises(survivor: House) -> None:
    """P1, P2, P3: all arrived, twice only where the log says so, the mailbox is empty, the store adds up."""
    arrived = survivor.arrived()
    assert set(arrived) == {mail(number) for number in range(MESSAGES)}
    unknown = survivor.unknown()
    for number in range(MESSAGES):
        if arrived[mail(number)] > 1:
            assert f"uidl-{number}".encode() in unknown
    assert survivor.provider.mailboxes["info"].messages == []
    assert survivor.problems() == []
