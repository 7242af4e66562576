"""The laws on the page: one table of all of them with their verdicts, and a part for each law of learning mechanics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import polars as pl

from pipeline.experiments.experiment import described, step
from pipeline.experiments.verdict import claimed, overall
from pipeline.reporting.chapter import Figure
from pipeline.reporting.numbers import DASH, count, known, significant
from pipeline.reporting.tables import Cell, Table, estimate, number, words
from pipeline.results import law_tables

_NUMBERS = ("predicted", "measured", "error", "tolerance", "low", "high")
_ROLES = {"law": "", "boundary": "end of the regime", "control": "control: outside the regime it should fail"}
_TOLERANCES = {"distance": "±", "factor": "within a factor", "at_most": "at most"}
_HEADER = ("law", "verdict", "statement", "predicted", "measured", "figure", "regime seen")


@dataclass(frozen=True)
class Paragraph:
    """A piece of a law's description: words, or a formula as written."""

    text: str
    formula: bool


@dataclass(frozen=True)
class LawPart:
    """One law of learning mechanics on the page: its statement and regime, what was found, and its figures."""

    name: str
    title: str
    paragraphs: tuple[Paragraph, ...]
    says: tuple[str, ...]
    verdict: str
    findings: Table
    figures: tuple[Figure, ...]


def draw_law(name: str, summary: Mapping[str, Any], tables: dict[str, pl.DataFrame], results: Path) -> Sequence[Figure]:
    """The figures of the law `name` from its `summary` and `tables`, and its runs in the folder `results`."""
    return step(name, "draw")(summary, tables, *law_tables(name, results))


def law_part(name: str, judged: Mapping[str, Any], figures: Sequence[Figure]) -> LawPart:
    """The part of the law `name` with its `figures`: `judged` as in findings.json."""
    title, docstring = described(name)
    summary, findings = judged["summary"], judged["findings"]
    caption = "Every claim of this law, the ends of its regime, and controls: settings at which it should fail."
    rows = [_row(one, {figure.name for figure in figures}) for one in findings]
    shown = _table(f"{name}_findings", f"{title}: what was tested", caption, rows, findings)
    return LawPart(name, title, paragraphs(docstring), tuple(summary["says"]), overall(findings), shown, tuple(figures))


def opening_table(
    study: Sequence[Mapping[str, Any]],
    laws: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]],
    drawn: Set[str],
) -> Table:
    """The table that the page opens with: the findings of the scaling study, then one row a law of learning mechanics.

    `laws` maps a name to the title and the findings of a law; its row shows the first finding and the verdict on all.
    `drawn` holds the names of the figures on the page.
    """
    rows, shown = [_row(one, drawn) for one in study], list(study)
    for name, (title, findings) in laws.items():
        if not findings:
            continue
        verdict, claims = overall(findings), claimed(findings)
        first = _row(findings[0], drawn)
        said = Cell(words(title).pieces, note=findings[0]["formula"], link=f"law-{name}")
        judged = words(verdict.replace("_", " "), verdict, note=f"{claims.count('holds')} of {len(claims)} claims hold")
        rows.append((said, judged, *first[2:]))
        shown.append({**findings[0], "law": title, "verdict": verdict})
    caption = (
        "“Holds”: within the tolerance. “Violated”: outside it. “Not reached”: the runs never entered the regime. "
        "“Undetermined”: half of the 95 % interval is wider than the tolerance, or the value lies beyond it, or on "
        "either side of a bound, by less than that. “Swept”: a boundary found once lies between these two values "
        "of the sweep; they are no interval. A law of learning mechanics is shown by its first claim; its verdict is "
        "the worst of all its claims, which stand in its own section."
    )
    return _table("findings", "The laws", caption, rows, shown)


def in_words(laws: Sequence[LawPart]) -> list[str]:
    """How many laws of learning mechanics hold, and which do not, as a paragraph; none where none was tested."""
    if not laws:
        return []
    titles = {
        verdict: [f"“{law.title}”" for law in laws if law.verdict == verdict]
        for verdict in ("holds", "violated", "undetermined", "not_reached")
    }
    said = {"violated": "violated", "undetermined": "left undetermined", "not_reached": "not reached"}
    text = f"Of {len(laws)} other simple laws of learning, tested on the side, {len(titles['holds'])} hold"
    for verdict, participle in said.items():
        if titles[verdict]:
            text += f"; {len(titles[verdict])} {participle}: {', '.join(titles[verdict])}"
    return [f"{text}."]


def paragraphs(docstring: str) -> tuple[Paragraph, ...]:
    """The docstring by its blank lines; what is indented is a formula."""
    first, _, rest = docstring.strip("\n").partition("\n")
    blocks = re.split(r"\n\s*\n", first + "\n" + dedent(rest))
    return tuple(
        Paragraph(dedent(block).strip("\n"), True)
        if block.startswith("    ")
        else Paragraph(" ".join(block.split()), False)
        for block in blocks
        if block.strip()
    )


def _row(finding: Mapping[str, Any], drawn: Set[str]) -> tuple[Cell, ...]:
    """The cells of one finding under _HEADER."""
    role, figure = _ROLES[finding.get("role", "law")], finding.get("figure")
    return (
        words(finding["law"], note=finding["formula"]),
        words(finding["verdict"].replace("_", " "), _look(finding), note=role),
        words(finding["statement"], note=f"Source: {finding['source']}" if finding["source"] else ""),
        replace(number(finding["predicted"], significant), note=_within(finding)),
        _measured(finding),
        words("figure", link=f"figure-{figure}") if figure in drawn else words(None),
        words(_regimes(finding) or None),
    )


def _measured(finding: Mapping[str, Any]) -> Cell:
    """What was measured with its 95 % interval, or above the two swept values between which a boundary lies."""
    value, ends, unit = finding["measured"], finding.get("interval"), finding["unit"]
    if not ends or finding.get("interval_kind") != "swept":
        return replace(estimate(value, ends), note=unit)
    low, high = (count(end) if abs(end) >= 1000 else f"{end:.4g}" for end in ends)
    return replace(number(value, significant), note=f"swept: {low} to {high} {unit}".rstrip())


def _look(finding: Mapping[str, Any]) -> str:
    """The style of a verdict: a control that fails is as it should be."""
    as_expected = finding.get("role") == "control" and finding["verdict"] in ("violated", "not_reached")
    return f"{finding['verdict']} expected" if as_expected else finding["verdict"]


def _within(finding: Mapping[str, Any]) -> str:
    """The tolerance as a note under what was predicted."""
    if finding["predicted"] is None:
        return ""
    if finding["tolerance"] is None:
        return "a bound"
    kind, size = finding.get("tolerance_kind", "distance"), finding["tolerance"]
    return f"{_TOLERANCES.get(kind, kind)} {f'{size:g}' if kind == 'factor' else significant(size, 2)}"


def _table(name: str, title: str, caption: str, rows: list[tuple[Cell, ...]], findings: Sequence[Mapping]) -> Table:
    flat = []
    for one in findings:
        low, high = one.get("interval") or (None, None)
        plain = {
            key: one.get(key) for key in ("law", "role", "kind", "verdict", "statement", "formula", "source", "unit")
        }
        sizes = {key: one.get(key) for key in ("predicted", "measured", "error", "tolerance", "tolerance_kind")}
        sizes["interval_kind"] = one.get("interval_kind")
        ends = {"low": low, "high": high, "regime": _regimes(one), "figure": one.get("figure")}
        flat.append(plain | sizes | ends)
    texts = dict.fromkeys(("law", "role", "kind", "verdict", "figure", "tolerance_kind", "interval_kind"), pl.String)
    frame = pl.DataFrame(flat, schema_overrides=dict.fromkeys(_NUMBERS, pl.Float64) | texts if flat else None)
    return Table(name, title, caption, _HEADER, tuple(rows), frame, row_headed=True)


def _regimes(finding: Mapping[str, Any]) -> str:
    return "; ".join(_regime(part) for part in finding.get("regime") or [])


def _regime(part: Mapping[str, Any]) -> str:
    low, high, unit = part["low"], part["high"], part["unit"]
    ends = "".join(
        f", {words} {_short(part.get(key))}"
        for key, words in (("broke_at", "broke at"), ("predicted", "predicted to end at"))
        if known(part.get(key))
    )
    if known(low) and known(high):
        seen = f" {_short(low)} to {_short(high)} {unit}"
    elif known(low):
        seen = f" from {_short(low)} {unit}"
    elif known(high):
        seen = f" up to {_short(high)} {unit}"
    else:
        seen = ": no range seen"
    return f"{part['variable']}{seen.rstrip()}{ends}"


def _short(value: float | None) -> str:
    """Parameters and tokens as 1.2 M, anything small to three digits."""
    if not known(value):
        return DASH
    return count(value) if abs(value) >= 1000 else significant(value, 3)
