"""What came and went in the last minutes, as rates, counts and a line of blocks."""

import pytest

from cli.flow import SPAN, Flow

NOW = 1_800_000_000


def test_what_is_seen_is_counted_in_the_second_in_which_it_is_seen() -> None:
    flow = Flow([], NOW - SPAN, NOW)
    flow.came([("downloaded", 10), ("submitted", 5), ("attempted", 99)], NOW)
    assert flow.per_second("received", NOW) == 3.0
    assert flow.per_second("received", NOW + 4) == 3.0
    assert flow.per_second("received", NOW + 5) == 0.0
    assert flow.total("received", 60, NOW + 59) == 15
    assert flow.total("received", 60, NOW + 60) == 0
    assert flow.total("delivered", 60, NOW) == 0


def test_what_was_there_before_counts_by_its_own_time() -> None:
    flow = Flow([("failed", NOW - 100, 2), ("rejected-oversize", NOW + 7, 1)], NOW - 200, NOW)
    assert flow.total("refused", 60, NOW) == 1  # another machine's clock is ahead: it is there all the same
    assert flow.total("refused", SPAN, NOW) == 3
    assert flow.whole(60, NOW)
    assert not flow.whole(SPAN, NOW)
    assert flow.whole(SPAN, NOW + 100)


def test_the_old_is_forgotten() -> None:
    flow = Flow([("relayed", NOW, 1)], NOW - SPAN, NOW)
    flow.came([], NOW + SPAN)
    assert flow.total("relayed", 10 * SPAN, NOW + SPAN) == 0


@pytest.mark.parametrize("width", [1, 7, 30, 60, 299, 300, 1000])
def test_the_line_is_no_wider_than_there_is_room(width: int) -> None:
    flow = Flow([("delivered", NOW - age, age) for age in range(SPAN)], NOW - SPAN, NOW)
    assert 0 < len(flow.line("delivered", width, NOW)) <= width


def test_the_line_is_as_high_as_its_highest_and_blank_where_nothing_is_known() -> None:
    second = NOW - NOW % SPAN + SPAN - 1  # the end of a column, however wide they are
    flow = Flow([("deferred", second, 8), ("deferred", second - 10, 4)], second - 99, second)
    line = flow.line("deferred", 30, second)
    assert line == " " * 20 + "·" * 8 + "▅█"
    assert flow.line("deferred", 30, second, plain=True) == " " * 20 + "." * 8 + "+#"
    assert flow.line("relayed", 30, second).strip() == "·" * 10
