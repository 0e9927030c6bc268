"""`mailgate run`: once and until stopped, whole and in parts, and what it refuses."""

from __future__ import annotations

import logging
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.run import complete
from engine import clock
from engine.log_lines import OneLine
from store.errors import StoreUnreachable
from tests.cli.installation import PROCESS_SECONDS, Installation, installed
from tests.peers.certificates import until, write_certificate_and_key

SCANNER = '[[scanner]]\nkind = "clamd"\naddress = "127.0.0.1:3310"\non_found = "quarantine"\n'
LISTEN = '[listen]\naddress = "127.0.0.1:2500"\n'
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) .+")


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


def test_once_delivers_what_is_there_and_exits_0(database_url: str, tmp_path: Path) -> None:
    with installed(tmp_path, database_url, users="info sales") as house:
        if database_url.startswith("postgresql"):
            house.mailgate("run", "--once", code=4)  # a server's database is never filled unasked
            house.mailgate("db", "upgrade")
        house.put(2, "info")
        house.put(1, "sales")
        said = house.mailgate("run", "--once")
        assert sorted(entry.recipients for entry in house.home.ledger) == [
            ("info@example.com",),
            ("info@example.com",),
            ("sales@example.com",),
        ]
        assert house.mailbox.uidls("info") == house.mailbox.uidls("sales") == []
        assert "mailbox sales: 1 downloaded" in said


def test_once_exits_1_while_something_is_open(house: Installation) -> None:
    house.home.fault("rcpt", "reply", code=451, text="4.7.1 later")
    house.put()
    said = house.mailgate("run", "--once", code=1)
    assert "1 message is open: 'mailgate queue' shows what for" in said
    assert all(LINE.fullmatch(line) for line in said.splitlines())


def test_run_goes_on_until_sigterm(house: Installation) -> None:
    with house.running() as process:
        house.put()
        house.mailgate("mailbox", "poll", "info")
        house.home.wait_until(lambda: len(house.home.ledger) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PROCESS_SECONDS) == 0


def test_it_says_that_it_runs_once_it_does(house: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        house.configure(more=LISTEN.replace("2500", str(busy.getsockname()[1])))
        said = house.mailgate("run", code=3)
    assert "in use" in said
    assert "running with" not in said


def test_with_a_closed_output_it_runs_and_ends_as_ever(house: Installation) -> None:
    house.put()
    for words, signalled in (("--once", False), ("", True)):
        command = shlex.join(house.command("run", *words.split()))
        with subprocess.Popen(
            ["sh", "-c", f"exec {command} >&-"],
            cwd=house.folder,
            env=house.environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stderr is not None
                if signalled:
                    next(line for line in process.stderr if " running with 1 mailbox, " in line)
                    process.send_signal(signal.SIGTERM)
                assert "Traceback" not in process.stderr.read()
                assert process.wait(PROCESS_SECONDS) == 0
            finally:
                process.kill()
    assert len(house.home.ledger) == 1


def test_only_one_gateway_runs_on_an_sqlite_store(house: Installation) -> None:
    with house.running():
        assert "runs on this store already" in house.mailgate("run", "--once", code=4)


def test_fetching_and_working_may_be_apart(house: Installation) -> None:
    house.put()
    house.mailgate("run", "--once", "--only", "fetch", code=1)
    assert house.mailbox.retrievals() != []
    assert house.home.ledger == []
    house.mailgate("run", "--once", "--only", "work")
    assert len(house.home.ledger) == 1
    assert len(house.mailbox.sessions) == 1  # the worker alone polls nothing


def test_a_mailbox_under_another_name_is_warned_of_until_there_is_a_record_of_it(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    house.put(2)
    assert "nothing is on record" not in house.mailgate("run", "--once")
    plain = house.file.read_text()
    house.file.write_text(plain.replace('name = "info"\n', 'name = "office"\n', 1))
    said = house.mailgate("run", "--once", "--only", "work")
    assert "nothing is on record" not in said
    house.mailgate("mailbox", "adopt", "office", "--yes")
    said = house.mailgate("run", "--once")
    assert "nothing is on record" not in said
    assert len(house.home.ledger) == 2
    house.file.write_text(plain.replace('name = "info"\n', 'name = "desk"\n', 1))
    said = house.mailgate("run", "--once")
    assert "nothing is on record of mailbox desk, but of info, office, not configured any more" in said


def test_a_part_that_does_not_exist_is_named(house: Installation) -> None:
    said = house.mailgate("run", "--only", "fetch,lisen", code=2)
    assert "there is no part 'lisen': did you mean 'listen'?" in said


def test_mail_passes_no_scanner_that_is_not_there(house: Installation) -> None:
    house.put()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    house.configure(more=SCANNER.replace("3310", str(port)))
    said = house.mailgate("run", "--once", code=1)
    assert f"scanner clamd is down: can't connect to 127.0.0.1:{port}" in said
    assert house.home.ledger == []
    house.mailgate("mailbox", "poll", "--all", code=0)
    assert house.home.ledger == []
    (row,) = house.rows("list")
    assert row["state"] == "deferred"
    assert row["recipients"][0]["reply"].startswith("clamd: can't connect to ")


def test_a_single_round_does_not_listen(house: Installation) -> None:
    house.put()
    assert "--only names listen, and there is no [listen]" in house.mailgate(
        "run", "--only", "listen", code=3
    )
    house.configure(more=LISTEN)
    assert "--once doesn't listen" in house.mailgate("run", "--once", "--only", "listen", code=2)
    assert "listening" not in house.mailgate("run", "--once")
    assert len(house.home.ledger) == 1


def test_warnings_are_said_once_at_the_start(house: Installation) -> None:
    house.configure(mailbox='remove = "never"')
    said = house.mailgate("run", "--once").splitlines()
    assert [n for n, line in enumerate(said) if 'remove = "never"' in line] == [0]


def test_who_listens_with_a_certificate_that_expires_is_told_so(house: Installation) -> None:
    certificate, key = write_certificate_and_key(house.folder)
    certificate.write_text(until(clock.now() + timedelta(days=5, minutes=5)))
    listening = f'[listen]\naddress = "127.0.0.1:0"\ntls_cert = "{certificate}"\ntls_key = "{key}"\n'
    house.configure(more=listening)
    for words, told in ((("--only", "listen"), True), (("--only", "work"), False)):
        process = subprocess.Popen(
            house.command("run", *words), stderr=subprocess.PIPE, text=True, env=house.environment
        )
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if " running with " in line:
                break
        process.kill()
        process.communicate()
        assert (f"WARNING listen.tls_cert: {certificate} expires in 5d" in said) is told


def test_errors_are_one_line_with_the_exit_code_of_the_contract(house: Installation) -> None:
    house.file.write_text("[gateway]\nhostnam = 1\n")
    assert len(house.mailgate("run", "--once", code=3).splitlines()) == 1
    house.store_url = "postgresql://nobody@127.0.0.1:1/nothing"
    house.configure()
    assert "store" in house.mailgate("run", "--once", code=4)
    house.store_url = f"sqlite:///{house.folder}/nowhere/mailgate.db"
    house.configure()
    assert "there is no folder" in house.mailgate("run", "--once", code=4)


def test_a_log_record_is_one_line_whatever_is_in_it() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("mailgate", logging.ERROR, "", 0, "it broke: %s", (error,), sys.exc_info())
    line = OneLine().format(record)
    assert LINE.fullmatch(line)
    assert "it broke: two lines (ValueError at " in line
    assert __file__ in line


def test_of_a_group_of_errors_the_store_s_counts() -> None:
    async def broken() -> int:
        gone = StoreUnreachable("the store has gone away")
        raise ExceptionGroup("unhandled", [ValueError("other"), ExceptionGroup("inner", [gone])])

    with pytest.raises(StoreUnreachable):
        complete(broken())
