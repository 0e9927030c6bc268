"""The pictures of a report: charts by pygal, as SVG that stands in a page.

Colours are the page's (`--delivered` …), so that they fit a dark page and a light one. There is no script in them: what a bar
stands for is its tooltip, and the table beside the picture says it all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal
from xml.etree.ElementTree import Element

from cli.sections import Section

WIDTH, HEIGHT = 960, 280
BAR, FRAME = 28, 44  # what a lying bar takes, and what is around them all
MOST_BARS = 15  # that lie; the tables have all
TICKS = 5
LONGEST = 40  # characters of a label
PLACES = frozenset({"d", "x", "y", "width", "height", "transform"})  # attributes that are numbers
_FRACTION = re.compile(r"(\.\d)\d+")  # less than a tenth of a pixel

Kind = Literal["StackedBar", "StackedLine", "HorizontalStackedBar"]


def drawn(section: Section, kind: Kind, marks: Sequence[str] | None = None) -> str:
    """Return a section's rows as a stack each, as SVG. `marks` are what stands along the axis instead of their labels."""
    rows = section.rows[:MOST_BARS] if kind == "HorizontalStackedBar" else section.rows
    labels = [_short(row.label) for row in rows] if marks is None else list(marks)
    if kind == "HorizontalStackedBar":
        rows, labels = rows[::-1], labels[::-1]  # the first comes on top
    chart = _chart(kind, section, len(rows))
    chart.x_labels = labels
    chart.y_labels = _ticks(max(sum(one.count for one in row.figures.values()) for row in rows))
    for state in section.columns:
        counts = (row.figures[state].count if state in row.figures else None for row in rows)
        told = [
            {"value": count or 0, "label": f"{row.label}, {state}"}
            for count, row in zip(counts, rows, strict=True)
        ]
        chart.add(state, told)
    return str(chart.render(is_unicode=True))


def _pygal() -> Any:
    """Return pygal, without what it does to all imports that come after: that is for its maps, in a way that Python gave up."""
    pygal = import_module("pygal")
    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != "pygal"]
    return pygal


def _chart(kind: Kind, section: Section, rows: int) -> Any:
    pygal, style = _pygal(), import_module("pygal.style")
    look = style.Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--ink)",
        foreground_strong="var(--ink)",
        foreground_subtle="var(--faint)",
        colors=tuple(f"var(--{state})" for state in section.columns),
        opacity="1",
        opacity_hover=".7",
        font_family="inherit",
        label_font_size=12,
        major_label_font_size=12,
        transition="0s",
    )
    lying = kind == "HorizontalStackedBar"
    chart = getattr(pygal, kind)(
        style=look,
        js=[],
        width=WIDTH,
        height=BAR * rows + FRAME if lying else HEIGHT,
        margin=6,
        spacing=8,
        show_legend=False,  # the page has one: pygal's grows into itself
        truncate_label=-1,
        disable_xml_declaration=True,
        value_formatter=lambda count: f"{count:,.0f}",
        fill=kind == "StackedLine",
        show_dots=False,
        show_y_guides=True,
    )
    chart.uuid = section.name
    chart.add_xml_filter(_plain)
    return chart


def _plain(root: Element) -> Element:
    """Leave what is seen, and make of what pygal's script would show the tooltip that every browser has."""
    for parent in list(root.iter()):
        told = {child.get("class", ""): child.text or "" for child in parent if child.tag == "desc"}
        for child in [one for one in parent if _unseen(one)]:
            parent.remove(child)
        if "value" in told:
            title = Element("title")
            title.text = ": ".join(told[name] for name in ("label", "value") if name in told)
            parent.insert(0, title)
        for name in PLACES.intersection(parent.keys()):
            parent.set(name, _FRACTION.sub(r"\1", parent.get(name, "")))
    return root


def _unseen(part: Element) -> bool:
    """Whether it is a note, a script, a bar of nothing, or a line that marks nothing."""
    if not isinstance(part.tag, str) or part.tag in ("desc", "script"):  # a comment has a function for a tag
        return True
    if part.get("class") == "guides":
        return not any(label.text for label in part.iter("text"))
    bar = part.find("rect") if part.get("class") == "bar" else None
    return bar is not None and 0 in (float(bar.get("width", 0)), float(bar.get("height", 0)))


def _ticks(most: int) -> list[int]:
    """Return the round numbers for an axis that goes up to this."""
    step = next(n * 10**power for power in range(16) for n in (1, 2, 5) if n * 10**power * TICKS >= most)
    return list(range(0, most + step, step))


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
