"""`mailgate demo` shows every fate, keeps a store that the other commands can ask, and touches nobody's folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.installation import PROCESS_SECONDS, ROOT


def mailgate(folder: Path, *words: str, code: int = 0, columns: int = 200) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILGATE_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", *words],
        capture_output=True,
        timeout=PROCESS_SECONDS,
        check=False,
        env=environment | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns)},
        cwd=folder,
    )
    said = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def test_the_demo_shows_every_fate_and_names_commands_that_work(tmp_path: Path) -> None:
    said = mailgate(tmp_path, "demo")
    for heading in (
        "Grüße aus Köln: Anfrage, to info@example.com: delivered",
        "Are you still there?, to left.the.company@example.com: failed",
        "Order 77, to sales@example.com: delivered",
        "All measurements of the year, to info@example.com: rejected-oversize",
    ):
        assert heading in said
    order = said[said.index("Order 77") : said.index("All measurements")]
    assert order.index(" deferred ") < order.index("attempt 2") < order.index(" delivered to home")
    assert "The home server took 7 messages. The mailbox still holds 2" in said
    commands = re.findall(r"^  mailgate (--config .+?)\s+# ", said, re.MULTILINE)
    assert [shlex.split(command)[2] for command in commands] == [
        "list",
        "show",
        "explain",
        "raw",
        "events",
        "queue",
    ]
    for command in commands:
        assert mailgate(tmp_path, *shlex.split(command)).strip()


def test_the_commands_name_the_program_as_it_was_called(tmp_path: Path) -> None:
    program = tmp_path / "some bin" / "mailgate"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [str(program), "demo"],
        capture_output=True,
        timeout=PROCESS_SECONDS,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    said = done.stdout.decode()
    listing = re.findall(r"^  (.+ list)\s+# ", said, re.MULTILINE)
    again = subprocess.run(
        shlex.split(listing[0]),
        capture_output=True,
        timeout=PROCESS_SECONDS,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert "Order 77" in again.stdout.decode()


def test_a_demo_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    mailgate(tmp_path, "demo", "--keep", "with space")
    (folder / "notes.txt").write_text("mine")
    again = mailgate(tmp_path, "demo", "--keep", "with space", columns=80)
    assert max(map(len, again.splitlines())) <= 80
    assert "\n  # the whole log\n  mailgate --config 'with space/mailgate.toml' events\n" in again
    assert "The home server took 7 messages." in again
    listed = mailgate(tmp_path, "--config", str(folder / "mailgate.toml"), "list", "--json")
    assert listed.count('"id"') == 9  # seven messages and two notices: not those of the first demo too
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["mailgate.toml", "letter.txt"])
def test_a_folder_that_is_somebody_s_is_left_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "mailgate-demo"
    folder.mkdir()
    (folder / name).write_text("precious")
    said = mailgate(tmp_path, "demo", code=2)
    assert "name another folder with --keep" in said
    assert {file.name: file.read_text() for file in folder.iterdir()} == {name: "precious"}
