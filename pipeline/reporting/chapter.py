"""What one experiment contributes to the page, as plain values: words, headline numbers, tables, methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from pipeline.reporting.calculator import Calculator
from pipeline.reporting.tables import Table


@dataclass(frozen=True)
class Figure:
    """A drawn figure: file stem, caption in one or two sentences, SVG text, and the table it was drawn from.

    `check` puts it among the checks of the fit; `along` is the x of the interactive figure that takes its place where
    scripts run.
    """

    name: str
    title: str
    caption: str
    svg: str
    table: pl.DataFrame
    check: bool = False
    along: Literal["C", "N", "D"] | None = None


@dataclass(frozen=True)
class Fact:
    """A headline number: what it is, how it reads, and a short remark under it (its interval, its unit)."""

    label: str
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Method:
    """A paragraph of the methods: heading, plain words, and a formula as MathML (written in this repository)."""

    heading: str
    text: str
    mathml: str = ""


@dataclass(frozen=True)
class Item:
    """A question of the reporting checklist, the study's answer, and whether that answers it."""

    question: str
    answer: str
    answered: Literal["yes", "partly", "no"]


@dataclass(frozen=True)
class Chapter:
    """One experiment on the page.

    `in_short` is the abstract of the page, `abstract` what was found at length; `mathml` the law as displayed, "" where
    none was identified; `tables` say what was fitted, `checks` put it to the test; `runs` holds the long tables at the
    end of the page. `counted` says what N counts, `explorer` holds what the interactive figures are drawn from, plain
    JSON values, and `calculator` answers for budgets; both are None where there is nothing to show.
    """

    name: str
    title: str
    in_short: tuple[str, ...]
    abstract: tuple[str, ...]
    facts: tuple[Fact, ...]
    mathml: str
    tables: tuple[Table, ...]
    checks: tuple[Table, ...]
    runs: tuple[Table, ...]
    methods: tuple[Method, ...]
    counted: str
    explorer: dict[str, Any] | None
    calculator: Calculator | None
