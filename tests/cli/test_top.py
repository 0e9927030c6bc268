"""`top`: once as text and JSON, and the full screen: what it shows, the way down to a message, what trouble it survives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from sqlalchemy import text
from textual.pilot import Pilot
from textual.widgets import Input, Static

from cli import context, live, times
from cli.live import Live, Overview
from cli.live_pages import Found, Help, Page
from cli.live_panel import Panel
from cli.snapshot import Watch
from engine import presence
from engine.settings import load
from store.database import writing
from store.mailbox_events import PollFailed
from tests.build import Builder, varied
from tests.cli.command import PATIENCE_SECONDS, Mailgate, configure
from tests.cli.terminal import terminal


class Place:
    """A store with a message of each kind, as old as an hour or so, and the command to ask about it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.builder = Builder(url, times.now() - timedelta(hours=4, minutes=2))
        self.ids = varied(self.builder)
        self.builder.at = times.now() - timedelta(seconds=2)
        self.file = configure(folder, url)
        self.mailgate = Mailgate(folder)
        self.store = folder / "mailgate.db"


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str) -> Iterator[Place]:
    made = Place(tmp_path, sqlite_url)
    yield made
    made.builder.close()


@pytest.fixture
def either(tmp_path: Path, database_url: str) -> Iterator[Place]:
    made = Place(tmp_path, database_url)
    yield made
    made.builder.close()


# -- once


def test_once_prints_every_panel(either: Place) -> None:
    answer = either.mailgate("top", "--once")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.lines
    assert "no gateway runs  in flight 0" in lines[0]
    titles = [line.split()[0] for line in lines if line.split()[:1] in (["FLOW"], ["MAILBOX"], ["TIME"])]
    assert titles == ["FLOW", "MAILBOX", "TIME"]
    first = {line.split("  ")[0]: line for line in lines}
    assert first["(held)"].split()[1] == "1"
    assert first["(outcome unknown)"].split()[2] == "1"
    assert first["home"].split()[1] == "2"
    assert "down for 1h" in first["home"]
    assert "failing" in first["info"]
    assert "auth: -ERR [AUTH] invalid login" in first["info"]
    event = lines[[line.split()[:1] for line in lines].index(["TIME"]) + 1]
    assert f"{either.ids['received']}  downloaded" in event


def test_json_has_the_same_for_programs(either: Place) -> None:
    stream = either.builder.downloaded()
    either.builder.attempted(stream)
    either.builder.delivered(stream)
    answer = either.mailgate("top", "--once", "--json")
    (told,) = answer.json
    assert answer.code == 0
    assert told["gateway_runs"] is False
    assert told["in_flight"] == {"messages": 0, "octets": 0}
    assert told["flow"]["received"]["last_5_minutes"] == 1
    assert told["flow"]["delivered"]["last_minute"] == 1
    assert told["flow"]["delivered"]["last_5_minutes_whole"] is True
    assert told["flow"]["refused"]["last_5_minutes"] == 0
    counts = {one["next_hop"] or one["state"]: one["open"] for one in told["queue"]}
    assert counts == {"outcome-unknown": 1, "held": 1, "home": 2, None: 1}
    assert {one["next_hop"]: one["failures"] for one in told["queue"]}["home"] == 0  # it took the last one
    assert told["mailboxes"] == either.mailgate("mailbox", "list", "--json").json
    newest = either.mailgate("events", "--json", "--limit", "20").json
    assert told["events"] == newest[::-1]
    assert told["position"] == newest[-1]["position"]


def test_a_gateway_that_runs_is_told(either: Place) -> None:
    here = presence.arrive(either.builder.engine)
    try:
        (told,) = either.mailgate("top", "--once", "--json").json
    finally:
        here.leave()
    assert told["gateway_runs"] is True


def test_an_empty_store_has_nothing_to_show(mailgate: Mailgate, sqlite_url: str) -> None:
    Builder(sqlite_url).close()
    configure(
        mailgate.folder,
        sqlite_url,
        '[gateway]\ndomains = ["example.com"]\n[next_hop.home]\nhost = "127.0.0.1"\n',
    )
    told = mailgate("top", "--once").out
    for nothing in ("nothing is open", "no mailbox is configured", "nothing has happened yet"):
        assert nothing in told


def test_an_ascii_terminal_gets_ascii(place: Place) -> None:
    place.builder.downloaded()
    answer = place.mailgate.process("top", "--once", PYTHONIOENCODING="ascii")
    received = next(line for line in answer.lines if line.startswith("received"))
    assert set(received.split()[-1]) == {".", "#"}


# -- where it can't be drawn


def test_without_a_terminal_it_is_wrong_usage(place: Place) -> None:
    answer = place.mailgate.process("top")
    assert answer.code == 2
    assert answer.complaint == "top needs a terminal: 'mailgate top --once' prints how it is now"
    assert place.mailgate("top", "--json").code == 2


def test_a_dumb_terminal_is_pointed_to_what_prints_lines(place: Place) -> None:
    with terminal(place.mailgate, "top", TERM="dumb") as shown:
        assert shown.ended() == 2
        told = " ".join(shown.text.split())
    assert told.startswith("mailgate: top can't draw on this terminal (TERM is dumb): 'mailgate queue'")


def test_only_the_screen_loads_the_library_that_draws(mailgate: Mailgate) -> None:
    for module, loads in (("cli.top", False), ("cli.live", True)):
        probe = f"import sys, {module}; sys.exit(('textual' in sys.modules) != {loads})"
        done = subprocess.run([sys.executable, "-c", probe], env=mailgate.environment, check=False)
        assert done.returncode == 0, module


# -- on a real terminal


def test_it_draws_goes_down_to_a_message_and_ends(place: Place) -> None:
    stream = place.ids["received"]
    with terminal(place.mailgate, "top") as shown:
        shown.until_text(f"{stream}  downloaded")
        assert "(outcome unknown)" in shown.text
        assert "auth: -ERR [AUTH] invalid login" in shown.text
        assert "q quit" in shown.text.splitlines()[-1]
        assert "red" in shown.colours
        shown.type("\r")
        shown.until_text(f"Message {stream}")
        shown.type("\x1b")
        shown.until_text("NEXT HOP")
        shown.resize(120, 40)
        shown.until_text("DOWNLOADED")
        shown.type("q")
        assert shown.ended() == 0
    assert b"\x1b[?1049l" in shown.raw  # what was on the terminal before is back


def test_keys_that_come_at_once_are_all_meant(place: Place) -> None:
    with terminal(place.mailgate, "top") as shown:
        shown.until_text("downloaded")
        shown.type("/quarterly p?\r")  # none of them quits, pauses or asks for help
        shown.until_text("What has 'quarterly p?' in its subject or addresses")
        shown.until_text("no message fits")
        shown.type("\x03")
        assert shown.ended() == 0


def test_without_colours_it_has_none(place: Place) -> None:
    with terminal(place.mailgate, "top", NO_COLOR="1") as shown:
        shown.until_text("downloaded")
        assert shown.colours == set()
        assert any(
            cell.reverse for cell in shown.screen.buffer[23].values()
        )  # the keys can be told apart all the same
        shown.type("q")
        assert shown.ended() == 0


# -- the screen, from within


@asynccontextmanager
async def screen(place: Place, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Screen]:
    """Yield the screen, once it has looked."""
    settings = load(place.file)
    with context.opened(settings) as engine:
        app = Live(Watch(engine, settings), every_seconds=0.2)
        async with app.run_test(size=size) as pilot:
            found = Screen(app, pilot)
            await found.until(lambda: bool(found.panel("events").rows))
            yield found


class Screen:
    """A screen without a terminal."""

    def __init__(self, app: Live, pilot: Pilot[Exception]) -> None:
        self.app = app
        self.press = pilot.press
        self.resize = pilot.resize_terminal
        self.pause = pilot.pause

    def panel(self, name: str) -> Panel:
        return self.app.screen.query_one(f"#{name}", Panel)

    def rows(self, name: str) -> dict[str, tuple[str, ...]]:
        return {row.key: row.cells for row in self.panel(name).rows}

    @property
    def head(self) -> str:
        return str(self.app.screen_stack[0].query_one("#head", Static).content)

    @property
    def place(self) -> str:
        """Which lines of a page are seen, as its last line says."""
        found = self.app.screen
        return str(found.bottom.place.content) if isinstance(found, Page) else ""

    @property
    def page(self) -> str:
        found = self.app.screen
        return str(found.query_one("#page Static", Static).content) if isinstance(found, Page) else ""

    async def until(self, seen: Callable[[], bool]) -> None:
        last = monotonic() + PATIENCE_SECONDS
        while not seen():
            assert monotonic() < last, self.app.screen
            await self.pause(0.02)


async def test_the_page_of_a_message_is_the_one_that_show_prints(either: Place) -> None:
    stream = either.ids["mixed"]
    async with screen(either) as shown:
        marked = [row.cells[1] for row in shown.panel("events").rows].index(stream)
        await shown.press(*["down"] * marked, "enter")
        await shown.until(lambda: f"Message {stream}" in shown.page)
        width = shown.app.screen.query_one("#page").size.width
        printed = either.mailgate("show", stream, COLUMNS=str(width)).out
        assert [line.rstrip() for line in shown.page.splitlines()] == printed.splitlines()
        await shown.resize(60, 20)
        await shown.until(lambda: len(shown.page.splitlines()) > len(printed.splitlines()))  # wrapped anew
        await shown.until(lambda: shown.place.startswith("1-19 of "))
        await shown.press("end")
        await shown.until(lambda: shown.place.split(" of ")[0].endswith(f"-{shown.place.split(' of ')[1]}"))
        either.builder.attempted(stream, (2,))
        await shown.until(lambda: shown.page.count("attempted") == 2)
        await shown.press("escape")
        await shown.until(lambda: isinstance(shown.app.screen, Overview))


async def test_a_next_hop_opens_the_messages_that_wait_there(either: Place) -> None:
    async with screen(either) as shown:
        await shown.press("tab")
        assert shown.app.focused is shown.panel("queue")
        await shown.press(*["down"] * list(shown.rows("queue")).index("home"), "enter")
        await shown.until(lambda: isinstance(shown.app.screen, Found) and bool(shown.rows("found")))
        assert set(shown.rows("found")) == {either.ids["mixed"], either.ids["deferred"]}
        await shown.press("enter")
        await shown.until(lambda: "What happened" in shown.page)
        await shown.press("escape", "escape")
        await shown.until(lambda: isinstance(shown.app.screen, Overview))
        await shown.press("home", *["down"] * list(shown.rows("queue")).index("state:held"), "enter")
        await shown.until(lambda: isinstance(shown.app.screen, Found) and bool(shown.rows("found")))
        assert list(shown.rows("found")) == [either.ids["held"]]


async def test_a_mailbox_opens_what_was_fetched_from_it(place: Place) -> None:
    async with screen(place) as shown:
        shown.panel("mailboxes").focus()
        await shown.press("enter")
        await shown.until(lambda: isinstance(shown.app.screen, Found) and bool(shown.rows("found")))
        listed = place.mailgate("list", "--mailbox", "info", "--json").json
        assert list(shown.rows("found")) == [row["id"] for row in listed]


async def test_messages_are_found_by_words_addresses_and_ids(either: Place) -> None:
    async with screen(either) as shown:
        for asked, found in (
            ("grusse", {"mixed"}),
            ("gone@example.com", {"mixed"}),
            (either.ids["held"], {"held"}),
        ):
            await shown.press("slash")
            shown.app.screen.query_one(Input).value = asked
            await shown.press("enter")
            await shown.until(lambda: isinstance(shown.app.screen, Found) and bool(shown.rows("found")))
            assert set(shown.rows("found")) == {either.ids[kind] for kind in found}
            await shown.press("escape")
        await shown.press("slash", "x", "escape")
        assert not shown.app.screen.asking
        assert isinstance(shown.app.screen, Overview)


async def test_what_happens_appears_and_the_mark_stays_with_its_row(either: Place) -> None:
    async with screen(either) as shown:
        events = shown.panel("events")
        await shown.press("down", "down")
        marked = events.rows[2].key
        stream = either.builder.downloaded(subject="Something new")
        either.builder.attempted(stream)
        await shown.until(lambda: events.rows[0].cells[1:3] == (stream, "attempted"))
        assert events.rows[events.marked].key == marked
        assert events.marked == 4
        await shown.until(lambda: shown.rows("flow")["received"][2] == "1")
        assert float(shown.rows("flow")["received"][1]) == 0.2


async def test_nothing_moves_while_it_is_paused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = [], Watch.look
    monkeypatch.setattr(Watch, "look", lambda watch: [looks.append(watch), look(watch)][1])
    async with screen(place) as shown:
        await shown.press("p")
        await shown.until(lambda: "PAUSED" in shown.head)
        paused, stream = len(looks), place.builder.downloaded()
        await shown.pause(1.0)  # long enough for some looks
        assert len(looks) == paused
        assert stream not in {cells[1] for cells in shown.rows("events").values()}
        await shown.press("p")
        await shown.until(lambda: stream in {cells[1] for cells in shown.rows("events").values()})
        assert "PAUSED" not in shown.head


def move(store: Path, to: Path) -> None:
    for end in ("", "-wal", "-shm"):
        if (file := Path(f"{store}{end}")).exists():
            file.rename(f"{to}{end}")


async def test_a_store_that_goes_away_is_told_and_not_made_anew(place: Place) -> None:
    aside = place.store.with_name("aside.db")
    async with screen(place) as shown:
        place.builder.close()
        move(place.store, aside)
        await shown.until(lambda: f"there is no store at {place.store} any more" in shown.head)
        await shown.press("enter")
        await shown.until(lambda: isinstance(shown.app.screen, Page))
        await shown.until(
            lambda: "there is no store" in str(shown.app.screen.query_one("#keys", Static).content)
        )
        assert not place.store.exists()
        move(aside, place.store)
        await shown.until(lambda: "What happened" in shown.page)
        assert "no gateway runs" in shown.head


async def test_a_store_that_does_not_answer_is_waited_for_and_quit_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = Event(), Event()

    def stuck(_: Watch) -> None:
        asked.set()
        go_on.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(live, "SILENT_SECONDS", 0.0)
    async with screen(place) as shown:
        monkeypatch.setattr(Watch, "look", stuck)
        await shown.until(asked.is_set)
        await shown.until(lambda: "the store has not answered for" in shown.head)
        await shown.press("q")
        await shown.until(lambda: not shown.app.is_running)
    go_on.set()
    assert shown.app.return_code == 0


async def test_an_event_that_this_program_does_not_know_is_told_in_its_row(place: Place) -> None:
    newer = "UPDATE events SET version = 99 WHERE position = (SELECT max(position) FROM events)"
    with writing(place.builder.engine) as connection:
        for (trigger,) in connection.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        ).all():
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        connection.execute(text(newer))
    async with screen(place) as shown:
        told = shown.panel("events").rows[0].cells
        assert told[1:3] == (place.ids["received"], "downloaded")
        assert "99" in told[3]
        await shown.press("enter")
        await shown.until(lambda: "99" in shown.head)  # nor does its page bring the screen down
    assert place.mailgate("top", "--once", "--json").code == 0


async def test_an_error_of_our_own_ends_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Watch) -> None:
        raise ZeroDivisionError("ours")

    async with screen(place) as shown:
        monkeypatch.setattr(Watch, "look", broken)
        await shown.until(lambda: not shown.app.is_running)
    assert isinstance(shown.app.return_value, ZeroDivisionError)


async def test_the_height_goes_to_who_needs_it_and_the_events_keep_a_third(place: Place) -> None:
    for number in range(30):
        name = f"box{number}"
        failed = PollFailed(mailbox=name, kind="auth", permanent=True, text="-ERR no")
        place.builder.mailbox_event(name, failed)
    async with screen(place, (80, 24)) as shown:
        await shown.until(lambda: len(shown.panel("mailboxes").rows) > 30)
        await shown.until(lambda: shown.panel("mailboxes").size.height == 5)
        heights = {name: shown.panel(name).size.height for name in ("flow", "queue", "mailboxes", "events")}
        assert heights == {"flow": 6, "queue": 5, "mailboxes": 5, "events": 6}
        shown.panel("mailboxes").focus()
        await shown.press("end")
        assert "-31 of 31" in str(shown.panel("mailboxes").render())
        await shown.resize(80, 60)
        await shown.until(lambda: shown.panel("queue").size.height == shown.panel("queue").whole_height)


async def test_help_says_what_the_keys_do(place: Place) -> None:
    async with screen(place, (80, 24)) as shown:
        await shown.press("question_mark", "question_mark")
        assert isinstance(shown.app.screen, Help)
        told = str(shown.app.screen.query_one("#page Static", Static).content)
        assert max(map(len, told.splitlines())) < 80
        for _, does in live.KEYS:
            assert does.split()[0] in told or does == "help"
        await shown.press("escape")
        assert isinstance(shown.app.screen, Overview)
        await shown.press("escape")
        assert isinstance(shown.app.screen, Overview)  # there is nothing above
