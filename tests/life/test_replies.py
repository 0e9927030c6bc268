"""What a server said, or that it said nothing, as it stands on record: its own code and words, found by `list --reply`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.life.house import House, house, mail


@pytest.fixture
def opened(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as opened:
        opened.provider.put("info", mail(0))
        yield opened


@pytest.mark.parametrize(
    ("stage", "fault", "code", "said"),
    [
        (
            "banner",
            {"action": "reply", "code": 554, "text": "5.3.2 no service"},
            554,
            "554 5.3.2 no service (the greeting of 127.0.0.1[127.0.0.1]:{})",
        ),
        (
            "ehlo",
            {"action": "reply", "code": 451, "text": "4.3.0 later"},
            451,
            "451 4.3.0 later (the reply to EHLO of 127.0.0.1[127.0.0.1]:{})",
        ),
        ("banner", {"action": "drop"}, None, "4.4.2 no session with 127.0.0.1[127.0.0.1]:{}: "),
        ("mail", {"action": "drop"}, None, "4.4.2 127.0.0.1[127.0.0.1]:{}: connection lost"),
    ],
)
def test_a_next_hop_s_trouble_is_on_record_in_its_own_words(
    opened: House, stage: str, fault: dict[str, Any], code: int | None, said: str
) -> None:
    opened.home.fault(stage, times=None, **fault)
    assert opened.run("run", "--once").returncode == 1
    said = said.format(opened.home_port)
    (event,) = (e for e in opened.json("events") if e["name"] == "deferred")
    assert (event["data"]["code"], event["data"]["scope"]) == (code, "next-hop")
    assert event["personal"]["reply"].startswith(said)
    assert len(opened.json("list", "--reply", f"{said[:9]}*")) == 1
    assert opened.run("list", "--reply", "421*").returncode == 1
    assert said.partition(" (")[0] in " ".join(opened.run("show", event["stream"]).stdout.split())
