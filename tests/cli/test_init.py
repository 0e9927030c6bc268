"""`init` writes a configuration that is valid and private, and never over another unless told to."""

import os
import stat
from pathlib import Path

import pytest

from engine import settings
from tests.cli.command import Mailgate


def test_what_it_writes_is_a_valid_configuration_for_its_owner_alone(mailgate: Mailgate) -> None:
    answer = mailgate("init")
    assert answer.code == 0
    file = mailgate.folder / "mailgate.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [mailbox.name for mailbox in settings.load(file).mailboxes] == ["info"]
    assert answer.lines[0] == "mailgate.toml is written. Next:"
    assert "mailgate check --connect" in answer.out
    assert mailgate("check").code == 0


@pytest.mark.parametrize("arguments", [("init", "my.toml"), ("--config", "my.toml", "init")])
def test_another_file_can_be_named(arguments: tuple[str, ...], mailgate: Mailgate) -> None:
    answer = mailgate(*arguments)
    assert answer.code == 0
    assert (mailgate.folder / "my.toml").exists()
    assert "mailgate --config my.toml run --once" in answer.out


def test_a_file_that_is_there_stays_unless_forced(mailgate: Mailgate) -> None:
    file = mailgate.folder / "mailgate.toml"
    file.write_text("mine\n")
    file.chmod(0o644)
    answer = mailgate("init")
    assert answer.code == 1
    assert answer.complaint == "mailgate.toml is there already: --force replaces it"
    assert file.read_text() == "mine\n"
    assert mailgate("init", "--force").code == 0
    assert "[gateway]" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [left.name for left in mailgate.folder.iterdir()] == ["mailgate.toml"]


def test_what_is_no_file_is_never_replaced(mailgate: Mailgate) -> None:
    os.mkfifo(mailgate.folder / "pipe")
    (mailgate.folder / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        answer = mailgate("init", "--force", name)
        assert (answer.code, answer.complaint) == (
            2,
            f"{name} is no file that could be replaced: name another",
        )
    assert stat.S_ISFIFO((mailgate.folder / "pipe").stat().st_mode)
    assert mailgate("init", ".").code == 1
    assert sorted(left.name for left in mailgate.folder.iterdir()) == ["link", "pipe"]


def test_a_link_stays_one_and_what_somebody_laid_in_the_way_is_left_alone(mailgate: Mailgate) -> None:
    (mailgate.folder / "real.toml").write_text("mine\n")
    (mailgate.folder / "mailgate.toml").symlink_to("real.toml")
    (mailgate.folder / "shadow").write_text("root:x")
    (mailgate.folder / "shadow").chmod(0o644)
    for name in (".mailgate.toml.new", ".real.toml.new"):
        (mailgate.folder / name).symlink_to("shadow")
    assert mailgate("init", "--force").code == 0
    assert (mailgate.folder / "shadow").read_text() == "root:x"
    assert (mailgate.folder / "shadow").stat().st_mode & 0o777 == 0o644
    assert (mailgate.folder / "mailgate.toml").is_symlink()
    assert "[gateway]" in (mailgate.folder / "real.toml").read_text()


def test_a_folder_that_is_not_there_is_not_made(mailgate: Mailgate, tmp_path: Path) -> None:
    answer = mailgate("init", "nowhere/mailgate.toml")
    assert answer.code == 3
    assert answer.complaint == "nowhere/mailgate.toml can't be written: No such file or directory"
    assert not (tmp_path / "nowhere").exists()
