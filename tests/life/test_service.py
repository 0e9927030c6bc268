"""The gateway as a service: started, stopped, killed, doubled, left without its store or its disk, and started again.

Every test runs `mailgate` as a process and looks at what an administrator or a service manager sees: exit codes, one-line
errors, the log, what arrived, what is on record.
"""

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from engine import clock
from engine.presence import gateway_runs
from store import agenda, conserve
from store.database import open_store, reading, writing
from tests.life.gateway import Gateway, check_log, running
from tests.life.house import ROOT, House, add_mailbox, house, letter, mail
from tests.peers.pop3d import Pop3Peer
from tests.real.postgres import Postgres
from tests.real.process import wait_until

MANY = 40
BOXES = 4
TINY_DISK = "2m"
TINY_OCTETS = 2 << 20
MB = 1_000_000
STALE = "the gateway that runs was started with another configuration: restart it"


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        yield opened


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as opened:
        yield opened


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_url: str) -> Iterator[House]:
    with house(tmp_path, postgres_url) as opened:
        yield opened


def put(opened: House, count: int, size_octets: int = 300) -> Counter[bytes]:
    """New mail in the mailbox; returns what has to arrive."""
    for number in range(count):
        opened.provider.put("info", mail(number, size_octets), uidl=f"uidl-{number}")
    return Counter(mail(number, size_octets) for number in range(count))


def all_there(opened: House, expected: Counter[bytes]) -> None:
    opened.home.wait_until(lambda: expected.keys() <= opened.arrived().keys())


def check_promises(opened: House, expected: Counter[bytes]) -> None:
    """All arrived; what came twice is named; the store adds up."""
    arrived, unknown = opened.arrived(), opened.unknown()
    assert arrived.keys() == expected.keys()
    twice = {f"uidl-{n}".encode() for n in range(len(expected)) if arrived[list(expected)[n]] > 1}
    assert twice <= unknown
    assert opened.problems() == []


def complaint(opened: House, *arguments: str, code: int) -> str:
    """What a command says that can't do its work: one line, and the exit code."""
    done = opened.run(*arguments)
    assert done.returncode == code, done.stderr
    *warnings, line = done.stderr.splitlines()
    check_log("\n".join(warnings))  # of the configuration, ahead of the one line
    assert all(" WARNING " in warning for warning in warnings)
    assert line.startswith("mailgate: ")
    assert done.stdout == ""
    return line


# -- stopped and killed


def test_a_file_that_was_changed_since_the_start_is_said_not_to_be_in_force(
    opened: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.home.fault("rcpt", "reply", code=450, text="4.2.0 later", times=None)
    put(opened, 1)
    with running(opened, "--only", "fetch,work"):
        wait_until(lambda: bool(opened.json("list", "--state", "deferred")), "it is deferred")
        (one,) = opened.json("list", "--state", "deferred")
        commands = (
            *(("explain", one["id"]), ("replay", "--dry-run", one["id"]), ("check", "--connect")),
            *(("mailbox", "list"), ("mailbox", "poll", "info"), ("queue",), ("queue", "--json")),
        )

        def told() -> list[tuple[str, ...]]:
            done = {command: opened.run(*command) for command in commands}
            said = {command: " ".join((x.stdout + x.stderr).split()) for command, x in done.items()}
            return [command for command in commands if STALE in said[command]]

        opened.more = "# a remark\n"
        assert told() == []
        opened.more = '[[route]]\nrecipients = ["info@example.com"]\nnext_hop = "home"\n'
        assert told() == list(commands)
        assert STALE not in opened.run("queue", "--json").stdout
        opened.more = ""
        monkeypatch.setattr("tests.life.house.PASSWORD", "another")
        assert STALE in opened.run("mailbox", "list").stderr
    assert told() == []


def test_sigterm_waits_for_the_answer_that_is_under_way(opened: House) -> None:
    late = opened.home.fault("dot", "late")
    expected = put(opened, 1)
    with ExitStack() as stack:
        silent = add_mailbox(stack, opened, "silent", 1)
        silent.fault("retr", "stall")
        with running(opened) as gateway:
            opened.home.wait_until(lambda: opened.home.ledger)
            silent.wait_until(lambda: silent.said("RETR"))
            gateway.process.send_signal(signal.SIGTERM)
            silent.wait_until(lambda: silent.sessions[0].ended == "broken")  # it heard, and fetches no more
            late.release()
            assert gateway.ended() == 0
    assert "stopped" in gateway.lines[-1]
    assert opened.arrived() == expected
    (row,) = opened.json("list")
    assert row["state"] == "delivered"
    assert row["attempts"] == 1
    assert opened.problems() == []


def test_after_sigterm_nothing_more_is_fetched_however_long_the_rest_takes(opened: House) -> None:
    late = opened.home.fault("dot", "late")
    opened.mailbox = {"poll_every": "1s"}
    expected = put(opened, 1)
    with running(opened) as gateway:
        opened.home.wait_until(lambda: opened.home.ledger)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(1)  # a poll may just be under way
        sessions = len(opened.provider.sessions)
        opened.provider.put("info", mail(1), uidl="uidl-1")
        time.sleep(3)
        late.release()
        assert gateway.ended() == 0
        assert len(opened.provider.sessions) == sessions
    assert opened.arrived() == expected
    assert opened.provider.retrievals() == ["uidl-0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nothing_to_do_a_signal_ends_it_at_once(on_sqlite: House, number: signal.Signals) -> None:
    with running(on_sqlite) as gateway:
        gateway.process.send_signal(number)
        assert gateway.ended() == 0


def test_a_service_outlives_sighup_and_says_that_it_reads_nothing_anew(on_sqlite: House) -> None:
    expected = put(on_sqlite, 1)
    with running(on_sqlite) as gateway:
        gateway.process.send_signal(signal.SIGHUP)
        gateway.says("SIGHUP changes nothing: a new configuration counts after a restart")
        all_there(on_sqlite, expected)
        assert gateway.stop() == 0


def test_a_terminal_that_is_closed_ends_it_as_sigterm_does(on_sqlite: House) -> None:
    on_sqlite.write()
    command = [sys.executable, "-m", "cli.main", "--config", str(on_sqlite.config), "run"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(command[0], command, os.environ | on_sqlite.environment)
    said = b""
    while b" running with " not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("arguments", "number", "code"), [((), signal.SIGTERM, 0), (("--once",), signal.SIGINT, 130)]
)
def test_a_signal_while_a_poll_waits_for_the_store_loses_nothing(
    opened: House, arguments: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    opened.mailbox = {"remove": "downloaded"}
    expected = put(opened, 10)
    silent = opened.provider.fault("retr", "stall")
    engine = open_store(opened.store_url)
    with running(opened, *arguments, at_once=True, clean=False) as gateway:
        opened.provider.wait_until(lambda: silent.stalled)
        with writing(engine):  # as a backup program does
            silent.release()
            opened.provider.wait_until(lambda: len(opened.provider.retrievals()) == 10)
            gateway.process.send_signal(number)
            opened.provider.wait_until(lambda: opened.provider.sessions[0].ended == "broken")
        assert gateway.ended() == code
    engine.dispose()
    with running(opened) as gateway:
        all_there(opened, expected)
        wait_until(lambda: poll_and_see_whether_empty(opened), "an empty mailbox")
        assert gateway.stop() == 0
    check_promises(opened, expected)


def test_what_a_killed_gateway_held_is_taken_over_at_once(opened: House) -> None:
    late = opened.home.fault("dot", "late")
    expected = put(opened, 5)
    opened.next_hop = {"connections": 1}
    with running(opened) as killed:
        opened.home.wait_until(lambda: opened.home.ledger)
        killed.kill()
    late.release()
    with running(opened) as gateway:
        # A lease runs for a minute: who waited for it would be too late for this.
        all_there(opened, expected)
        opened.home.wait_until(
            lambda: sum(opened.arrived().values()) == 6
        )  # the one under way is tried again
        assert "took over" in gateway.log
        assert gateway.stop() == 0
    check_promises(opened, expected)


# -- two of them


def test_a_second_gateway_on_an_sqlite_store_is_refused_in_one_line(on_sqlite: House) -> None:
    with running(on_sqlite) as first:
        for arguments in (("run",), ("run", "--once")):
            said = complaint(on_sqlite, *arguments, code=4)
            assert f"process {first.process.pid}" in said
            assert "runs on this store already: stop it first" in said


def test_two_gateways_on_one_postgres_share_the_work(on_postgres: House) -> None:
    opened = on_postgres
    opened.make_store()
    expected: Counter[bytes] = Counter()
    with ExitStack() as stack:
        boxes = {f"box{n}": add_mailbox(stack, opened, f"box{n}", 0) for n in range(BOXES)}

        def new_mail(first: int) -> None:
            for name, peer in boxes.items():
                for number in range(first, first + MANY):
                    peer.put(name, letter(name, number))
                    expected[letter(name, number)] += 1
            assert opened.run("mailbox", "poll", "--all").returncode == 0

        opened.mailbox = {"poll_every": "1h"}  # a gateway that is stopped must not be writing just then
        with running(opened) as one, running(opened) as other:
            for round_, absent in enumerate((one, other)):  # each alone, so that each has its part
                await_rest(opened, round_ * MANY * BOXES)
                absent.process.send_signal(signal.SIGSTOP)
                new_mail(round_ * MANY)
                all_there(opened, expected)
                absent.process.send_signal(signal.SIGCONT)
            new_mail(2 * MANY)
            all_there(opened, expected)
            assert all(" downloaded" in gateway.log for gateway in (one, other))
            assert (one.stop(), other.stop()) == (0, 0)
    assert opened.arrived() == expected
    assert opened.unknown() == set()
    assert opened.problems() == []


def test_a_gateway_that_stood_still_adds_nothing_to_what_another_has_fetched_meanwhile(
    tmp_path: Path, postgres_url: str
) -> None:
    with house(tmp_path, postgres_url, provider=Pop3Peer(locks=False)) as opened, ExitStack() as stack:
        opened.make_store()
        expected = put(opened, 20)
        still: list[int] = []

        def stop(_occasion: object) -> None:
            if not still:
                still.append(one.process.pid)
                os.kill(one.process.pid, signal.SIGSTOP)

        opened.provider.fault("list", "stall", times=1)
        one = stack.enter_context(running(opened))
        opened.provider.on("retr", stop)
        opened.provider.heal()
        wait_until(lambda: still, "the first RETR")
        let_run_out(opened)  # as a minute would
        with running(opened) as other:
            all_there(opened, expected)
            wait_until(lambda: poll_and_see_whether_empty(opened), "an empty mailbox")
            one.process.send_signal(signal.SIGCONT)
            one.says("another gateway polls it by now")
            assert (one.stop(), other.stop()) == (0, 0)
        assert opened.arrived() == expected
        assert opened.problems() == []


def let_run_out(opened: House) -> None:
    """Whatever is held may be taken by others from now on."""
    engine = open_store(opened.store_url)
    try:
        with writing(engine) as connection:
            connection.execute(text("UPDATE agenda SET lease_until = 0 WHERE holder IS NOT NULL"))
    finally:
        engine.dispose()


def await_rest(opened: House, messages: int) -> None:
    wait_until(lambda: at_rest(opened, messages), "nothing under way")


def at_rest(opened: House, messages: int) -> bool:
    """Whether all mailboxes were polled, so many messages delivered, and nobody holds anything."""
    engine = open_store(opened.store_url)
    try:
        with reading(engine) as connection:
            polled = agenda.due(connection, agenda.POLL, datetime.max.replace(tzinfo=UTC))
            if agenda.holders(connection) or len(polled) <= BOXES:
                return False
            count = conserve.Count()
            assert list(conserve.check(connection, count, clock.now())) == []
            return count.messages == messages and count.open == 0
    finally:
        engine.dispose()


def test_fetching_and_working_may_be_two_processes(on_postgres: House) -> None:
    opened = on_postgres
    opened.make_store()
    with running(opened, "--only", "fetch") as fetching, running(opened, "--only", "work") as working:
        expected = put(opened, MANY)
        assert opened.run("mailbox", "poll", "info").returncode == 0
        all_there(opened, expected)
        wait_until(lambda: poll_and_see_whether_empty(opened), "an empty mailbox")
        assert (fetching.stop(), working.stop()) == (0, 0)
        assert "downloaded" in fetching.log
        assert "downloaded" not in working.log
    assert opened.arrived() == expected
    assert opened.problems() == []


def poll_and_see_whether_empty(opened: House) -> bool:
    assert opened.run("mailbox", "poll", "info").returncode == 0
    return not opened.provider.mailboxes["info"].messages


# -- what it can't start with


def test_a_postgres_store_is_upgraded_only_when_asked(on_postgres: House) -> None:
    assert "'mailgate db upgrade'" in complaint(on_postgres, "run", code=4)
    assert on_postgres.run("db", "upgrade").returncode == 0
    at_revision(on_postgres.store_url, "0000")
    assert "'mailgate db upgrade'" in complaint(on_postgres, "run", "--once", code=4)
    at_revision(on_postgres.store_url, "9999")
    assert "newer mailgate" in complaint(on_postgres, "run", code=4)


def at_revision(url: str, revision: str) -> None:
    engine = open_store(url)
    try:
        with writing(engine) as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
            )
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://gate:top-secret@127.0.0.1:1/mail",
        "postgresql://gate:top-secret@nowhere.invalid/mail",
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line_without_the_password(tmp_path: Path, url: str) -> None:
    with house(tmp_path, url) as opened:
        for arguments in (("run",), ("run", "--once"), ("list",)):
            said = complaint(opened, *arguments, code=4)
            assert "store" in said
            assert "top-secret" not in said


def test_a_configuration_that_is_wrong_is_one_line(on_sqlite: House) -> None:
    on_sqlite.mailbox = {"passwrd": "x"}
    said = complaint(on_sqlite, "run", code=3)
    assert "passwrd" in said
    assert "did you mean" in said
    assert not (on_sqlite.folder / "mailgate.db").exists()  # nothing was begun


# -- what it must live through


@pytest.mark.parametrize(("peer", "stage", "count"), [("home", "dot", 5), ("provider", "retr", 20)])
def test_a_killed_postgres_that_comes_back_costs_nothing_but_time(
    tmp_path: Path, start_postgres: Callable[..., Postgres], peer: str, stage: str, count: int
) -> None:
    server = start_postgres()
    with house(tmp_path, server.create_database()) as opened:
        assert opened.run("db", "upgrade").returncode == 0
        passed = 0

        def kill(_occasion: object) -> None:
            nonlocal passed
            passed += 1
            if passed == count:
                server.kill()

        (opened.home if peer == "home" else opened.provider).on(stage, kill)
        expected = put(opened, MANY)
        with running(opened) as gateway:
            gateway.says("the store can't be used")
            server.restart()
            wait_until(lambda: opened.run("mailbox", "poll", "info").returncode == 0, "the store")
            all_there(opened, expected)
            wait_until(lambda: poll_and_see_whether_empty(opened), "an empty mailbox")
            assert gateway.stop() == 0
            assert gateway.log.count("the store can't be used") == 1  # however many messages wait for it
        check_promises(opened, expected)


@contextmanager
def locked(opened: House, table: str) -> Iterator[Callable[[], bool]]:
    """Nobody reads a table, until this ends or the server does; yields what says whether somebody waits to."""
    engine = open_store(opened.store_url)
    connection = engine.connect()
    connection.exec_driver_sql(f"LOCK TABLE {table}")

    def waited_for() -> bool:
        found = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
        return bool(connection.exec_driver_sql(found, (table,)).scalar())

    try:
        yield waited_for
    finally:
        connection.invalidate()  # it went with the server
        connection.close()
        engine.dispose()


def test_a_store_that_is_lost_right_after_the_start_is_waited_for_and_said_once(
    tmp_path: Path, start_postgres: Callable[..., Postgres]
) -> None:
    server = start_postgres()
    with house(tmp_path, server.create_database()) as opened:
        assert opened.run("db", "upgrade").returncode == 0
        expected = put(opened, 3)
        # The first thing a gateway reads: so it is not past that when the server goes.
        with locked(opened, "next_hops") as waited_for, running(opened, at_once=True) as gateway:
            wait_until(waited_for, "the gateway")
            server.kill()
            gateway.says("the store can't be used")
            server.restart()
            all_there(opened, expected)
            assert gateway.stop() == 0
            assert gateway.log.count("the store can't be used") == 1
        check_promises(opened, expected)


def test_a_gateway_whose_store_is_lost_right_after_the_start_can_be_stopped(
    tmp_path: Path, start_postgres: Callable[..., Postgres]
) -> None:
    server = start_postgres()
    with house(tmp_path, server.create_database()) as opened:
        assert opened.run("db", "upgrade").returncode == 0
        with locked(opened, "next_hops") as waited_for, running(opened, at_once=True) as gateway:
            wait_until(waited_for, "the gateway")
            server.kill()
            gateway.says("the store can't be used")
            assert gateway.stop() == 0


def test_a_gateway_that_lost_its_store_can_be_stopped_in_the_middle_of_a_poll(
    tmp_path: Path, start_postgres: Callable[..., Postgres]
) -> None:
    server = start_postgres()
    with house(tmp_path, server.create_database()) as opened:
        assert opened.run("db", "upgrade").returncode == 0
        put(opened, 5)
        silent = opened.provider.fault("retr", "stall", number=3)
        with running(opened, "--only", "fetch") as gateway:
            opened.provider.wait_until(lambda: silent.fired)
            server.kill()
            assert gateway.stop() == 0


def test_a_gateway_is_known_to_be_alive_again_after_postgres_was_restarted(
    tmp_path: Path, start_postgres: Callable[..., Postgres]
) -> None:
    server = start_postgres()
    with house(tmp_path, server.create_database()) as opened:
        assert opened.run("db", "upgrade").returncode == 0
        with running(opened) as gateway:
            opened.provider.wait_until(lambda: opened.provider.sessions)  # it has begun
            server.restart()
            # Unknown, it would be taken for dead, and what it holds would be given to another.
            wait_until(lambda: is_seen_running(opened), "its sign of life")
            assert gateway.stop() == 0


def is_seen_running(opened: House) -> bool:
    engine = open_store(opened.store_url)
    try:
        return gateway_runs(engine)
    finally:
        engine.dispose()


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Callable[[], object]]:
    """A file system with little room at `folder`; yields what makes more."""
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={TINY_DISK}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can't be mounted here")
    try:
        yield partial(subprocess.run, ["mount", "-o", "remount,size=200m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with (
        tiny_disk(tmp_path / "disk") as make_room,
        house(tmp_path, f"sqlite:///{tmp_path}/disk/m.db") as opened,
    ):
        expected = put(opened, MANY, MB // 5)
        with running(opened) as gateway:
            gateway.says("full")
            make_room()
            go_on(opened, gateway, expected)
        check_promises(opened, expected)


def test_a_file_size_limit_loses_nothing_and_it_goes_on_when_it_is_lifted(on_sqlite: House) -> None:
    expected = put(on_sqlite, MANY, MB // 5)
    with running(on_sqlite) as gateway:
        pass
    unlimited = resource.RLIM_INFINITY
    on_sqlite.provider.fault("list", "stall", times=1)
    with running(on_sqlite) as gateway:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (TINY_OCTETS, unlimited))
        on_sqlite.provider.heal()
        gateway.says("the store can't be used")
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        go_on(on_sqlite, gateway, expected)
    check_promises(on_sqlite, expected)


def go_on(opened: House, gateway: Gateway, expected: Counter[bytes]) -> None:
    """There is room again: everything arrives without a restart, and is removed."""
    left = {message.uidl for message in opened.provider.mailboxes["info"].messages}
    assert {f"uidl-{n}" for n in range(MANY)} - left <= opened.durable()
    assert opened.run("mailbox", "poll", "info").returncode == 0
    all_there(opened, expected)
    wait_until(lambda: poll_and_see_whether_empty(opened), "an empty mailbox")
    assert gateway.stop() == 0


def test_a_sqlite_store_that_is_moved_away_is_waited_for(on_sqlite: House) -> None:
    file = on_sqlite.folder / "mailgate.db"
    first = [mail(number) for number in range(MANY, MANY + 3)]
    for number, one in enumerate(first):
        on_sqlite.provider.put("info", one, uidl=f"first-{number}")
    with running(on_sqlite) as gateway:
        all_there(on_sqlite, Counter(first))
        wait_until(lambda: poll_and_see_whether_empty(on_sqlite), "an empty mailbox")
        aside = file.rename(file.with_name("aside.db"))
        expected = put(on_sqlite, MANY)
        gateway.says("was moved, or another file is in its place")
        assert not file.exists()  # nobody made another one
        aside.rename(file)
        go_on(on_sqlite, gateway, expected)
        assert gateway.log.count("was moved, or another file is in its place") == 1
    check_promises(on_sqlite, expected + Counter(first))


def test_a_sqlite_store_that_another_file_takes_the_place_of_gets_nothing_more(on_sqlite: House) -> None:
    file = on_sqlite.folder / "mailgate.db"
    on_sqlite.make_store()
    other = on_sqlite.folder / "other.db"
    other.write_bytes(file.read_bytes())
    with running(on_sqlite) as gateway:
        other.rename(file)
        put(on_sqlite, MANY)
        gateway.says("was moved, or another file is in its place")
        assert gateway.stop() == 0
    assert on_sqlite.json("list") == []


def test_it_runs_without_uvloop(on_sqlite: House) -> None:
    stub = on_sqlite.folder / "stub"
    stub.mkdir()
    (stub / "uvloop.py").write_text("raise ImportError('no uvloop here')\n")
    on_sqlite.environment = {"PYTHONPATH": f"{stub}{os.pathsep}{ROOT}"}
    expected = put(on_sqlite, 5)
    done = on_sqlite.run("run", "--once")
    assert (done.returncode, on_sqlite.arrived()) == (0, expected), done.stderr
    assert on_sqlite.provider.mailboxes["info"].messages == []
    with running(on_sqlite) as gateway:
        assert gateway.stop() == 0
