"""The frame: help, usage errors, and what a person sees when something goes wrong."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli import main, times
from store.codec import CLASSES
from tests.build import Builder
from tests.cli.command import PATIENCE_SECONDS, PROGRAM, ROOT, Mailgate, configure
from tests.cli.stock import Place, Stock

HEAVY = {"sqlalchemy", "rich", "alembic", "aiosmtplib", "msgspec", "asyncio", "ssl", "engine", "orjson"}


def test_by_itself_it_prints_help(mailgate: Mailgate) -> None:
    alone = mailgate.process()
    assert alone.code == 0
    assert alone.err == ""
    assert alone.octets == mailgate.process("--help").octets
    listed = [line.split()[0] for line in alone.lines if line[:2] == "  " and line.split()[0] in main.PLACES]
    assert listed == list(main.PLACES)


@pytest.mark.parametrize("name", main.PLACES)
def test_every_command_is_there_and_explains_itself(name: str, mailgate: Mailgate) -> None:
    shown = mailgate(name, "--help")
    assert shown.code == 0, shown.err
    assert shown.out.startswith(f"Usage: mailgate {name} ")
    assert "--help" in shown.out


@pytest.mark.parametrize("name", ["audit", "db", "mailbox", "quarantine"])
def test_what_a_command_of_a_group_does_is_said_whole(name: str, mailgate: Mailgate) -> None:
    _, listed = mailgate(name, "--help", COLUMNS="80").out.split("Commands:\n")
    assert len(listed.splitlines()) > 2
    assert all(line.endswith(".") and not line.endswith("...") for line in listed.splitlines())


def every_command() -> Iterator[list[str]]:
    """Each command by its words, those of groups, too."""
    for name in main.PLACES:
        loaded = main._loaded(name)
        yield from [[name, one] for one in loaded.commands] if hasattr(loaded, "commands") else [[name]]


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_help_has_no_names_of_types(words: list[str], mailgate: Mailgate) -> None:
    usage, *rest = mailgate(*words, "--help").lines
    assert usage.startswith(f"Usage: mailgate {' '.join(words)} [OPTIONS]")
    assert not set("{}") & set(usage)
    assert not re.search(r"<(str|path|list)\b", " ".join(rest))


def test_what_may_be_given_again_is(mailgate: Mailgate) -> None:
    answer = mailgate("replay", "0123", "--recipients", "a@example.com", "--recipients", "b@example.com")
    assert answer.code == 3  # there is no configuration: the words were understood
    assert mailgate("list", "--json", "--json").code == 3


def test_every_event_has_its_name_in_the_manual() -> None:
    _, words = (ROOT / "README.md").read_text().split("Events of a message: ")
    named = re.findall(r"`([a-z-]+)`", words)
    assert sorted(named) == sorted(CLASSES)


def commands_of_the_manual() -> list[str]:
    """Each command of its shell blocks, without what stands behind it, and of its table for a bad day."""
    manual = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", manual, re.DOTALL)
    table = re.findall(r"`mailgate( [^`]+)`", manual.partition("## On a bad day")[2].partition("\n## ")[0])
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [re.search(r"(?:^|-- )mailgate( .*)", line.strip()) for line in lines]
    return sorted({one[1] for one in found if one} | set(table))


@pytest.mark.parametrize(("store", "code"), [("deferred", 1), ("well", 0), ("gone", 2)])
def test_the_check_of_the_manual_tells_warnings_from_what_is_critical(
    store: str, code: int, mailgate: Mailgate, sqlite_url: str, tmp_path: Path
) -> None:
    script = re.search(r"  (#!/bin/sh\n.*?)  ```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert script is not None
    program = tmp_path / "bin/mailgate"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    builder = Builder(sqlite_url, times.now() - timedelta(hours=5))
    if store == "deferred":
        stream = builder.downloaded()
        builder.attempted(stream)
        builder.deferred(stream, times.now() + timedelta(hours=1))
    builder.close()
    configure(mailgate.folder, sqlite_url if store != "gone" else "sqlite:///gone.db")
    path = f"{program.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["sh", "-c", script[1]], check=False, cwd=mailgate.folder, env=environment)
    assert ended.returncode == code


@pytest.mark.parametrize("line", commands_of_the_manual())
def test_every_command_of_the_manual_is_one(line: str, mailgate: Mailgate) -> None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((n for n, word in enumerate(words) if set(word) <= set("|&;<>")), len(words))
    answer = mailgate(*words[:end], "--help")  # what it doesn't know it refuses even so
    assert answer.code == 0, answer.err


def test_the_version_is_the_packages(mailgate: Mailgate) -> None:
    from importlib.metadata import version

    assert mailgate("--version").lines == [f"mailgate {version('mailgate')}"]


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; import cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert HEAVY.intersection(done.stdout.split()) == set()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["lst"], "there is no command 'lst': did you mean 'list'?"),
        (["xyzzy"], "there is no command 'xyzzy' (try 'mailgate --help')"),
        (["--nope"], "no such option: --nope"),
        (["list", "--state", "held", "--state", "failed"], "--state: given 2 times; it takes one value"),
        (
            ["quarantine", "discard", "--from", "a", "--from", "b"],
            "--from: given 2 times; it takes one value",
        ),
        (["list", "--since", "1h", "--until", "2h"], "--since: is not before --until"),
        (["events", "--since", "1h", "--until", "1h"], "--since: is not before --until"),
        (["hold", "--since", "1h", "--before", "2h"], "--since: is not before --before"),
        (["show"], "missing argument 'ID' (try 'mailgate show --help')"),
        (
            ["list", "--limit", "many"],
            "invalid value for '--limit': it is no whole number (try 'mailgate list --",
        ),
        (["list", "--limit", "9" * 20], "--limit: the number is too large; 0 is for all"),
        (["events", "--limit", "9" * 20], "--limit: the number is too large; 0 is for all"),
        (["events", "--after", "9" * 20], "--after: the number is too large: no log is that long"),
        (["list", "--from", "\udcff@example.com"], "'?@example.com' is no text in UTF-8"),
        (["hold", "0123", "--reason", "\udcff"], "'?' is no text in UTF-8"),
        (["stats", "--until", "9999-13-31"], "--until: '9999-13-31' is not a time: "),
        (["list", "--at", "9999-12-31"], "--at: 9999-12-31 is in the future: nothing is known of it yet"),
        (["queue", "--at", "9999-12-31"], "--at: 9999-12-31 is in the future: nothing is known of it yet"),
        (["show", "0123", "--at", "9999-12-31"], "--at: 9999-12-31 is in the future: "),
        (["diff", "2h", "9999-12-31"], "T2: 9999-12-31 is in the future: nothing is known of it yet"),
        (["report", "--json", "--since", "9999-12-30"], "--since: 9999-12-30 is in the future: "),
        (["stats", "--since", "9999-12-30"], "--since: 9999-12-30 is in the future: "),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], complaint: str, mailgate: Mailgate) -> None:
    answer = mailgate(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.complaint.startswith(complaint)


def test_without_a_configuration_it_says_where_it_looked(mailgate: Mailgate) -> None:
    answer = mailgate("list")
    assert answer.code == 3
    assert "$MAILGATE_CONFIG" in answer.complaint
    assert "mailgate init" in answer.complaint


def test_config_names_the_configuration(mailgate: Mailgate, stock: Stock) -> None:
    named = str(stock.mailgate.folder / "mailgate.toml")
    assert mailgate("--config", named, "list").code == 0
    assert mailgate("list", MAILGATE_CONFIG=named).code == 0
    missing = mailgate("--config", "nope.toml", "list", MAILGATE_CONFIG=named)
    assert missing.code == 3
    assert missing.complaint == "nope.toml: no such file (named by --config)"


def test_a_wrong_configuration_is_exit_3_with_its_line(mailgate: Mailgate) -> None:
    file = configure(mailgate.folder, "sqlite:///mailgate.db")
    file.write_text(file.read_text().replace("hostname =", "hostnam ="))
    answer = mailgate("list")
    assert answer.code == 3
    assert answer.complaint.startswith("mailgate.toml: line 2: ")


def test_a_defect_is_one_line_and_the_traceback_is_for_those_who_ask(stock: Stock, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import cli.render\n\n\ndef table(*columns):\n    raise KeyError('not foreseen')\n\n\ncli.render.table = table\n"
    )
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    answer = stock.mailgate.process("list", PYTHONPATH=path)
    assert answer.code == 70
    expected = "an error in mailgate itself: KeyError: 'not foreseen' (MAILGATE_TRACEBACK=1 shows where)"
    assert answer.complaint == expected
    asked = stock.mailgate.process("list", PYTHONPATH=path, MAILGATE_TRACEBACK="1")
    assert asked.code == 70
    assert "Traceback (most recent call last)" in asked.err
    assert asked.err.endswith(f"mailgate: {expected}\n")


def test_a_reader_that_stops_reading_is_no_error(stock: Stock) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody_reads:
        for form in ("--json", "--csv", "--limit=0"):
            answer = stock.mailgate.process("list", form, stdout=nobody_reads)
            assert (answer.code, answer.err) == (141, "")


def closed(mailgate: Mailgate, *arguments: str, streams: str) -> subprocess.CompletedProcess[str]:
    """A command as a shell starts it with these redirections."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {streams}', "sh", *PROGRAM, *arguments],
        cwd=mailgate.folder,
        env=mailgate.environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("list", "--csv"), ("stats", "--json")])
def test_a_closed_output_is_no_error(stock: Stock, arguments: tuple[str, ...]) -> None:
    answer = closed(stock.mailgate, *arguments, streams=">&-")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_what_is_printed_nowhere_gets_into_no_file(place: Place) -> None:
    answer = closed(place.mailgate, "hold", place.ids["deferred"], "--reason", "x", streams="<&- >&- 2>&-")
    assert answer.returncode == 0
    assert place.mailgate("list", "--state", "held", "--event", "held").code == 0
    assert place.mailgate("audit", "verify").code == 0


def test_ctrl_c_is_no_error_while_it_is_still_starting(mailgate: Mailgate, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n"
    )
    (entry,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].values()
    module, _, function = entry.partition(":")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"],
        env=mailgate.environment | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
def test_a_full_disk_is_one_line(stock: Stock) -> None:
    with Path("/dev/full").open("wb") as full:
        answer = stock.mailgate.process("list", stdout=full)
    assert (answer.code, answer.complaint) == (1, "No space left on device")


def on_a_terminal(stock: Stock, *arguments: str, **environment: str) -> str:
    """What a command writes on a terminal of 100 columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with os.fdopen(its, "wb") as terminal:
        answer = stock.mailgate.process(*arguments, stdout=terminal, TERM="xterm-256color", **environment)
    assert answer.code == 0, answer.err
    with os.fdopen(ours, "rb") as reader:
        return reader.read1(65536).decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["hold", "--since", "2h"],
        ["replay", "--since", "2h"],
        ["mailbox", "adopt", "info"],
        ["audit", "erase", "x", "--reason", "so"],
        ["route", "-"],
        ["top"],
    ],
)
def test_who_has_no_stdin_is_not_asked(arguments: list[str], mailgate: Mailgate) -> None:
    configure(mailgate.folder, "sqlite:///mailgate.db")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *PROGRAM, *arguments]
    done = subprocess.run(
        closed, cwd=mailgate.folder, env=mailgate.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(
        r"mailgate: (there is nobody to ask: add --yes|there is no stdin|top needs a).*\n", done.stderr
    )


def test_a_terminal_gets_colours_its_width_and_a_hint(stock: Stock) -> None:
    shown = on_a_terminal(stock, "list", "--limit", "3")
    assert "\x1b[36mreceived" in shown
    plain = on_a_terminal(stock, "list", "--limit", "3", NO_COLOR="1")
    assert "\x1b" not in plain
    assert plain == re.sub(r"\x1b\[[0-9;]*m", "", shown)
    *table, hint = plain.splitlines()
    assert len(table) == 4
    assert max(map(len, table)) <= 100
    assert hint == "There are more, older ones; --limit 12 or 0 shows them."


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("list", "--at", "1s"),
        ("diff", "5h"),
        ("queue",),
        ("quarantine", "list"),
        ("stats", "--since", "5h"),
        ("hold", "--state", "outcome-unknown", "--reason", "x", "--yes"),
    ],
)
def test_tables_fit_a_narrow_terminal(arguments: tuple[str, ...], place: Place) -> None:
    builder, long = place.builder, "a.long.name@a-long-name.example"
    builder.quarantined(builder.downloaded(subject="What a long subject it has", reverse_path=long))
    far = builder.downloaded(recipients=(long,))
    builder.attempted(far, hop="mx:a-long-name.example")
    builder.deferred(far, builder.at + timedelta(minutes=59), hop="mx:a-long-name.example")
    held = {"why": "operator", "rule": "operator", "operator": "anna", "reason": "the lawyer looks first"}
    builder.held(builder.downloaded(), **held, until=builder.at + timedelta(minutes=59))
    answer = place.mailgate(*arguments, COLUMNS="60")
    assert answer.code == 0, answer.err
    assert [line for line in answer.lines if len(line) > 60] == []


def test_an_output_that_knows_only_ascii_loses_letters_not_the_list(stock: Stock) -> None:
    answer = stock.mailgate.process("list", "--subject", "Gr", PYTHONIOENCODING="ascii")
    assert answer.code == 0
    assert "Gr??e ? ??" in answer.out


def test_names_are_completed_without_loading_the_commands(mailgate: Mailgate) -> None:
    answer = mailgate.process(_MAILGATE_COMPLETE="complete_bash", COMP_WORDS="mailgate r", COMP_CWORD="1")
    assert answer.lines == ["run", "raw", "report", "replay", "release", "rescan", "route"]


def test_options_are_completed(mailgate: Mailgate) -> None:
    answer = mailgate.process(
        _MAILGATE_COMPLETE="complete_bash", COMP_WORDS="mailgate list --sub", COMP_CWORD="2"
    )
    assert answer.lines == ["--subject"]
