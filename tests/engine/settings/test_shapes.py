"""The policy version changes with everything that decides, and with nothing else."""

import dataclasses
from pathlib import Path

import pytest

from engine import settings
from tests.engine.settings.configurations import WHOLE, loaded


def test_the_policy_version_is_twelve_hex_digits_and_stays(tmp_path: Path) -> None:
    version = loaded(tmp_path, WHOLE).policy_version
    assert len(version) == 12
    assert int(version, 16) >= 0
    (tmp_path / "elsewhere").mkdir()
    assert loaded(tmp_path / "elsewhere", WHOLE).policy_version == version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"hunter2"', '"other"'),
        ('"hunter2"', '{ env = "PASSWORD" }'),
        ("[next_hop", '[store]\nurl = "sqlite:///other.db"\n[next_hop'),
        ("[next_hop", "# a comment\n[next_hop"),
        ("[next_hop.home]", "[next_hop.home]\nconnections = 9"),
        ("[next_hop", '[[webhook]]\nurl = "https://a.example"\nsecret = "s"\n[next_hop'),
    ],
)
def test_secrets_and_places_do_not_change_the_policy_version(tmp_path: Path, old: str, new: str) -> None:
    changed = loaded(tmp_path, WHOLE.replace(old, new))
    assert changed.policy_version == loaded(tmp_path, WHOLE).policy_version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"info@example.com"', '"sales@example.com"'),
        ("[next_hop.home]", 'remove = "never"\n[next_hop.home]'),
        ("[next_hop.home]", '[next_hop.home]\non_unknown = "hold"'),
        ("[next_hop.home]", '[retry]\ncap = "2h"\n[next_hop.home]'),
        ("exchange.example.local", "domino.example.local"),
        ("[next_hop", '[[route]]\nsenders = ["*"]\nnext_hop = "home"\n[next_hop'),
        ("[next_hop", '[[hold]]\nsenders = ["*"]\n[next_hop'),
        ("[next_hop", '[[hold]]\nsenders = ["*"]\nuntil = 2030-01-01T00:00:00Z\n[next_hop'),
        ("[next_hop", '[[scanner]]\nkind = "clamd"\naddress = "h:1"\n[next_hop'),
        ("[next_hop", '[listen]\nallow = ["10.0.0.0/8"]\n[next_hop'),
    ],
)
def test_whatever_decides_changes_the_policy_version(tmp_path: Path, old: str, new: str) -> None:
    changed = loaded(tmp_path, WHOLE.replace(old, new))
    assert changed.policy_version != loaded(tmp_path, WHOLE).policy_version


def test_replacing_a_part_gives_a_new_policy_version(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    changed = dataclasses.replace(found, retry=settings.Retry(first_seconds=1.0))
    assert changed.policy_version != found.policy_version
