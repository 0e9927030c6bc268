"""A secret is read when it is needed, from where it is said to be, and shows in nothing that is printed."""

import asyncio
import os
import shlex
import sys
from pathlib import Path

import pytest

from engine import secrets, settings
from engine.secrets import Secret, SecretError
from tests.processes import command

TEXT = """\
[gateway]
postmaster = "postmaster@example.com"
hostname = "gate.example.com"
[[mailbox]]
name = "info"
host = "pop.provider.example"
username = "info"
recipients = ["info@example.com"]
"""


def secret_of(folder: Path, written: str) -> Secret:
    path = folder / "mailgate.toml"
    path.write_text(f"{TEXT}password = {written}\n")
    return settings.load(path).mailboxes[0].password


def python(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


async def error(secret: Secret) -> str:
    with pytest.raises(SecretError) as caught:
        await secret.reveal()
    said = str(caught.value)
    assert "\n" not in said
    assert "hunter2" not in said
    assert caught.value.__cause__ is None
    return said


async def test_a_written_secret_is_itself(tmp_path: Path) -> None:
    assert await secret_of(tmp_path, '" hunter2 "').reveal() == " hunter2 "


async def test_a_variable_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secret_of(tmp_path, '{ env = "INFO_PASSWORD" }')
    monkeypatch.delenv("INFO_PASSWORD", raising=False)
    assert await error(secret) == (
        "mailbox 'info': password: the environment variable INFO_PASSWORD is not set"
    )
    monkeypatch.setenv("INFO_PASSWORD", "hunter2")
    assert await secret.reveal() == "hunter2"
    monkeypatch.setenv("INFO_PASSWORD", "")
    assert await error(secret) == "mailbox 'info': password: the secret is empty"
    monkeypatch.setattr("os.environ", {"INFO_PASSWORD": "hunter\udce4"})  # as an environment of Latin-1 comes
    assert await error(secret) == "mailbox 'info': password: the secret is not UTF-8"


async def test_a_file_is_read_beside_the_configuration_each_time(tmp_path: Path) -> None:
    secret = secret_of(tmp_path, '{ file = "info.password" }')
    assert "info.password can't be read: No such file" in await error(secret)
    (tmp_path / "info.password").write_bytes(b" hunter2 \r\n")
    assert await secret.reveal() == " hunter2 "
    (tmp_path / "info.password").write_bytes(b"other")
    assert await secret.reveal() == "other"


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"hunter2\nDELE 1\n", "the secret holds a line break or NUL"),
        (b"hunter2\0", "the secret holds a line break or NUL"),
        (b"hunter2\xff", "is not UTF-8 text"),
        (b"x" * (secrets.SECRET_OCTETS + 1), "is longer than 16384 octets"),
    ],
)
async def test_a_file_that_holds_no_usable_secret_is_refused(
    tmp_path: Path, octets: bytes, said: str
) -> None:
    (tmp_path / "p").write_bytes(octets)
    assert said in await error(secret_of(tmp_path, '{ file = "p" }'))


async def test_a_command_runs_in_the_folder_of_the_configuration_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2 $HOME | cat\n")
    assert await secret_of(tmp_path, '{ command = "cat token" }').reveal() == "hunter2 $HOME | cat"
    assert await secret_of(tmp_path, "{ command = \"echo '$HOME' | x\" }").reveal() == "$HOME | x"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (python("import sys; print('hunter2'); sys.exit('hunter2')"), "failed with exit status 1"),
        (python("print('hunter2'); print('x')"), "the secret holds a line break"),
        (python("pass"), "the secret is empty"),
        (python("print('x' * 1000000)"), "is longer than 16384 octets"),
        (python("import sys; sys.stdout.buffer.write(b'hunter2\\xff')"), "is not UTF-8 text"),
        ("/absent/program hunter2", "the command /absent/program can't be run: No such file"),
    ],
)
async def test_a_command_that_gives_no_usable_secret_is_refused(command: str, said: str) -> None:
    assert said in await error(Secret(command, kind="command", used_for="test"))


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended but was not yet waited for has no command line."""
    return command(pid) != b""


async def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.1)
    said = await error(Secret("sleep 600", kind="command", used_for="test"))
    assert said == "test: the command sleep gave no answer within 0.1 s"


async def test_a_command_and_its_children_end_when_nobody_waits_any_more(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    # The child itself names both: by then each has its own command line.
    child = f"echo $PPID $$ > {shlex.quote(str(started))}; while sleep 600; do :; done"
    program = f"import subprocess; subprocess.run(['sh', '-c', {child!r}])"
    waiting = asyncio.create_task(Secret(python(program), kind="command").reveal())
    text = await asyncio.to_thread(started.read_text)
    pids = [int(pid) for pid in text.split()]
    assert [is_running(pid) for pid in pids] == [True, True]
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [is_running(pid) for pid in pids] == [False, False]


def test_a_secret_shows_in_nothing_that_is_printed() -> None:
    secret = Secret("hunter2", used_for="hunter2")
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr([secret])):
        assert "hunter2" not in text
        assert "Secret(…)" in text
