"""Short configurations for tests to change, and what comes of them."""

from pathlib import Path

import pytest

from engine import settings
from engine.settings import Settings, SettingsError

GATEWAY = """\
[gateway]
hostname = "gate.example.com"
postmaster = "postmaster@example.com"
domains = ["example.com"]
"""
MAILBOX = """\
[[mailbox]]
name = "info"
host = "pop.provider.example"
username = "info"
password = "hunter2"
"""
RECIPIENTS = 'recipients = ["info@example.com"]\n'
HOME = """\
[next_hop.home]
host = "exchange.example.local"
"""
WHOLE = GATEWAY + MAILBOX + RECIPIENTS + HOME


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "mailgate.toml"
    path.write_text(text)
    return settings.load(path)


def error(folder: Path, text: str) -> str:
    """The text of the error, without the file in front."""
    path = folder / "mailgate.toml"
    with pytest.raises(SettingsError) as caught:
        loaded(folder, text)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert "hunter2" not in said
    return said.removeprefix(f"{path}: ")
