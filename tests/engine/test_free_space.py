"""Room for new mail is looked at, believed for a moment, and a change is said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import free_space
from engine.free_space import FreeSpace, shortage_of


def test_the_floor_is_a_share_or_a_size_and_a_change_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_space, "LOOK_SECONDS", 0.0)
    caplog.set_level("INFO", "mailgate.listen")
    floor = {"octets": 0}
    space = FreeSpace(tmp_path, lambda total: floor["octets"] and total + 1)
    assert [space.enough() for _ in range(3)] == [True] * 3
    floor["octets"] = 1
    assert [space.enough() for _ in range(3)] == [False] * 3
    floor["octets"] = 0
    assert space.enough()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "less than the" in (shortage_of(tmp_path, lambda total: total + 1) or "")
    assert shortage_of(None, lambda total: total + 1) is None
    assert shortage_of(tmp_path / "gone", lambda total: total + 1) is None
