"""The full screen of `top`, from within: what it shows, the way down to a message, what trouble it survives."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text
from textual.widgets import Input, Static

from cli import live
from cli.live import Overview
from cli.live_pages import Found, Help, Page
from cli.snapshot import Watch
from store.database import writing
from store.mailbox_events import PollFailed
from tests.cli.command import PATIENCE_SECONDS
from tests.cli.stock import Place
from tests.cli.watched import screen


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
