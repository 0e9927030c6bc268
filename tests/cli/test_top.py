"""`top --once` as text and JSON; where the full screen can't be; and the screen on a real terminal."""

from __future__ import annotations

import subprocess
import sys

from engine import presence
from tests.build import Builder
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Place
from tests.cli.terminal import terminal

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
