"""Figures as SVG: same bytes for the same data, no date, ids that do not clash, an untouched matplotlib after it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import polars as pl

from pipeline.reporting import figures
from pipeline.reporting.panel import panel


def drawn(name: str) -> str:
    with figures.styled():
        canvas, (axes,) = figures.new_canvas()
        axes.plot([1e4, 1e5, 1e6], [2.0, 1.5, 1.3], marker="o", label="a & b")
        axes.fill_between([1e4, 1e6], [1.9, 1.2], [2.1, 1.4], alpha=0.2)
        figures.count_axis(axes.xaxis, [1e4, 1e6], "parameters N")
        figures.loss_axis(axes.yaxis, [1.3, 2.0], "loss")
        figures.legend_above(canvas, axes, "sizes")
        return figures.svg_text(canvas, name, "A <figure>")


def test_same_data_same_bytes_and_no_date() -> None:
    assert drawn("first") == drawn("first")
    assert not re.search(r"20\d\d-\d\d-\d\d|Matplotlib v|<metadata", drawn("first"))


def test_ids_begin_with_the_name_and_every_reference_resolves() -> None:
    svg = drawn("first")
    root = ElementTree.fromstring(svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("first-") for name in ids)
    assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg)) != set()
    for pair in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg):
        assert next(filter(None, pair)) in ids
    assert root.get("role") == "img"
    assert root.get("aria-label") == "A <figure>"


def test_text_stays_text_with_readable_ticks() -> None:
    texts = [element.text for element in ElementTree.fromstring(drawn("first")).iter() if element.tag.endswith("}text")]
    assert {"parameters N", "10\u202fk", "100\u202fk", "1\u202fM", "a & b"} <= set(texts)


def test_colours_are_ordered_by_value_and_stay_the_same_for_one_value() -> None:
    colours = figures.shades([3.0, 1.0, 2.0, 1.0])
    assert list(colours) == [1.0, 2.0, 3.0]
    assert len(set(colours.values())) == 3
    assert len(figures.shades([5.0])) == 1


def ticks(low: float, high: float, axis=figures.plain_log_axis) -> list[str]:
    with figures.styled():
        _, (axes,) = figures.new_canvas()
        axis(axes.xaxis, [low, high], "x")
        formatter = axes.xaxis.get_major_formatter()
        return [formatter(value) for value in axes.get_xticks() if axes.get_xlim()[0] <= value <= axes.get_xlim()[1]]


def test_a_short_logarithmic_axis_has_ticks_too_and_no_two_read_the_same() -> None:
    assert ticks(0.8, 1.25) == ["0.8", "0.9", "1", "1.1", "1.2"]
    assert ticks(0.1, 1e3) == ["0.1", "1", "10", "100", "1000"]
    for axis in (figures.plain_log_axis, figures.power_axis, figures.count_axis):
        for high in (1.02, 1.1, 1.3, 2.0, 8.0, 100.0):
            found = ticks(2.4e5, 2.4e5 * high, axis)
            assert len(set(found)) == len(found) >= 3, (axis, high)


def test_a_line_of_theory_is_broken_where_it_has_no_value() -> None:
    table = pl.DataFrame({"p": [1.0, 2.0, 3.0, 4.0, 5.0], "risk": [1.0, 2.0, 9.0, 2.0, 1.0]})
    for exact, pieces in (([1.0, 2.0, 5.0, 2.0, 1.0], 1), ([1.0, 2.0, None, 2.0, 1.0], 2)):
        own = table.with_columns(exact=pl.Series(exact))
        figure = panel("risk", "Risk", "", own, "p", "risk", theory="exact", x_label="p", y_label="risk", logs="")
        (line,) = re.findall(r'<path d="(M[^"]*)"[^>]*clip-path[^>]*opacity:\s*0?\.75', figure.svg)
        assert line.count("M") == pieces


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    drawn("first")
    assert dict(matplotlib.rcParams) == before
