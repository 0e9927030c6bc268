"""What the postmaster hears of the gateway itself, through the front door: each day once, of trouble when it begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from engine import clock
from store.mailbox_events import PollFailed
from tests.build import Builder
from tests.life.gateway import running
from tests.life.house import House, house, mail

DAILY = "Daily report: "


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    """A house whose store is some days old, and a report each midnight."""
    with house(tmp_path, database_url) as made:
        made.make_store()
        builder = Builder(database_url, clock.now() - timedelta(days=2))
        old = builder.downloaded()
        builder.attempted(old)
        builder.delivered(old)
        builder.removed(old)
        builder.close()
        made.gateway = {"daily_report": "00:00"}
        yield made


def written(house: House, beginning: str) -> list[str]:
    """The ids of the notices whose subject begins so."""
    found = house.json("list", "--direction", "internal", "--limit", "0")
    return [row["id"] for row in found if row["subject"].startswith(beginning)]


def got(house: House, beginning: str) -> int:
    """How many of them the postmaster has."""
    return sum(b"\r\nSubject: " + beginning.encode() in octets for octets in house.notices())


def test_the_report_of_the_day_comes_once_also_where_the_gateway_is_killed(opened: House) -> None:
    with running(opened) as gateway:
        gateway.says("the daily report was written")
        gateway.kill()
    with running(opened) as gateway:
        opened.home.wait_until(lambda: got(opened, DAILY) > 0)
        assert gateway.stop() == 0
    for _ in range(2):
        assert opened.run("run", "--once").returncode == 0
    assert len(written(opened, DAILY)) == 1
    shown = opened.run("show", *written(opened, DAILY)).stdout
    assert "generated: a notice (daily) for postmaster@example.com" in " ".join(shown.split())
    assert opened.problems() == []


def test_of_several_gateways_one_reports(tmp_path: Path, postgres_url: str) -> None:
    with house(tmp_path, postgres_url) as opened, ExitStack() as stack:
        opened.make_store()
        builder = Builder(postgres_url, clock.now() - timedelta(days=2))
        builder.downloaded()
        builder.close()
        opened.gateway = {"daily_report": "00:00"}
        gateways = [stack.enter_context(running(opened)) for _ in range(3)]
        opened.home.wait_until(lambda: got(opened, DAILY) > 0)
        for gateway in gateways:
            assert gateway.stop() == 0
        assert len(written(opened, DAILY)) == 1
        assert sum("the daily report was written" in one.log for one in gateways) == 1


def test_of_a_mailbox_in_trouble_it_hears_once_and_once_when_that_is_over(opened: House) -> None:
    opened.gateway = {}
    builder = Builder(opened.store_url, clock.now() - timedelta(hours=1))
    refused = PollFailed(mailbox="info", kind="connect", permanent=False, text="connection refused")
    builder.mailbox_event("info", refused)
    builder.close()
    opened.provider.fault("greeting", "err", text="[SYS/TEMP] later", times=None)
    for _ in range(3):
        assert opened.run("run", "--once").returncode == 1
        assert (got(opened, "Mailbox info fails"), len(opened.notices())) == (1, 1)
    opened.provider.heal()
    opened.provider.put("info", mail(1))
    for _ in range(2):
        assert opened.run("run", "--once").returncode == 0
        assert (got(opened, "Mailbox info works again"), len(opened.notices())) == (1, 2)
    assert [len(written(opened, one)) for one in ("Mailbox info fails", "Mailbox info works")] == [1, 1]
    assert opened.problems() == []


def test_an_hour_of_a_wrong_setting_names_the_key(opened: House) -> None:
    opened.gateway = {"daily_report": "7 o'clock"}
    refused = opened.run("check")
    assert refused.returncode == 3
    assert 'gateway.daily_report: expected a time of day in UTC such as "06:30"' in refused.stderr
