"""The line of a key is found in all the ways that TOML has of writing tables."""

from hypothesis import given
from hypothesis import strategies as st

from engine.settings.lines import line_of


def test_lines_are_found_in_arrays_of_tables_and_their_tables() -> None:
    source = "\n".join(
        [
            "top.key = 1",  # 1
            "[[mailbox]]",
            'name = "a"',  # 3
            "[mailbox.multidrop]",
            "headers = []",  # 5
            "# [[mailbox]]",
            "  [[ mailbox ]]  # the second",  # 7
            "  'name' = 1",
            "  [mailbox.multidrop]",  # 9
            '  "headers" = [',
            '    "x",',  # 11
            "  ]",
            "[next_hop.home]\r",  # 13
            "host=1\r",
        ]
    )
    assert line_of(source, ("top", "key")) == 1
    assert line_of(source, ("top",)) == 1
    assert line_of(source, ("mailbox", 0, "name")) == 3
    assert line_of(source, ("mailbox", 0, "multidrop", "headers")) == 5
    assert line_of(source, ("mailbox", 1)) == 7
    assert line_of(source, ("mailbox", 1, "name")) == 8
    assert line_of(source, ("mailbox", 1, "port")) == 7
    assert line_of(source, ("mailbox", 1, "multidrop", "headers", 0)) == 10
    assert line_of(source, ("next_hop", "home", "host")) == 14
    assert line_of(source, ("mailbox",)) == 2
    assert line_of(source, ("gateway", "hostname")) is None


@given(st.text(max_size=300))
def test_looking_for_a_line_never_fails(source: str) -> None:
    assert line_of(source, ("absent-key", 0)) is None or "absent-key" in source
