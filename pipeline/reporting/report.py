"""The published report: one HTML page that needs no network, and the figures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.outputs import replaced
from pipeline.params import Params
from pipeline.publishing.state import state_of
from pipeline.reporting import study_tables
from pipeline.reporting.bill import bill_table
from pipeline.reporting.changes import change_tables
from pipeline.reporting.chapter import Chapter, Figure
from pipeline.reporting.checklist import checklist_table
from pipeline.reporting.environment import environment
from pipeline.reporting.fitted_table import fitted_table
from pipeline.reporting.inputs import Inputs
from pipeline.reporting.law_parts import LawPart, in_words, opening_table
from pipeline.reporting.ledger import ledger_tables
from pipeline.reporting.provenance import Provenance
from pipeline.reporting.recipes import recipes_table
from pipeline.reporting.tables import Table, table_files


@dataclass(frozen=True)
class Part:
    """One experiment of the page: its words and tables, and its figures with the headline first."""

    chapter: Chapter
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Page:
    """A built report: the page, and the files beside it by path relative to the page."""

    html: str
    files: dict[str, bytes]


def build_page(
    params: Params, inputs: Inputs, parts: Sequence[Part], laws: Sequence[LawPart], provenance: Provenance
) -> Page:
    """The report of a study. The same values give the same text."""
    studied = [part.chapter.name for part in parts]
    everyone = [*studied, *(law.name for law in laws)]
    judged = [inputs.tables[name]["excluded"] for name in everyone if len(inputs.tables[name].get("excluded", ()))]
    verdicts = opening_table(
        [finding for name in studied for finding in inputs.experiments[name]["findings"]],
        {law.name: (law.title, inputs.experiments[law.name]["findings"]) for law in laws},
        {figure.name for part in (*parts, *laws) for figure in part.figures},
    )
    runs = (
        study_tables.excluded_table(inputs.runs, pl.concat(judged, how="diagonal_relaxed") if judged else None),
        study_tables.runs_table(inputs.runs, inputs.telemetry),
    )
    sections = {name: getattr(params, name) for name in type(params).model_fields if name != "publish"}
    setup = (
        study_tables.recipe_table(sections),
        recipes_table(inputs.tables.get("recipe_optimum", {}).get("optima")),
        study_tables.corpus_table(inputs.manifest),
        bill_table(inputs.runs, inputs.planned, inputs.telemetry),
    )
    origin = study_tables.provenance_tables(provenance)
    checklists = tuple(checklist_table(params, inputs, provenance, name) for name in studied)
    coverage = study_tables.coverage_table(inputs.coverage)
    external = [
        fitted_table(name, result["path"], result, inputs.external_points[name])
        for name, result in inputs.external.items()
    ]
    changes = ledger = ()
    if inputs.publications:
        changes = change_tables(inputs.publications, state_of(inputs.experiments, inputs.runs, inputs.law_runs))
        ledger = ledger_tables(inputs.publications, inputs.planned, inputs.runs)
    chapters = [part.chapter for part in parts]
    of_parts = (table for one in chapters for table in (*one.tables, *one.checks, *one.runs))
    of_laws = (*(law.findings for law in laws), *(table for part in external for table in part.tables))
    budgets = (one.calculator.budgets for one in chapters if one.calculator)
    more = (*changes, *ledger, *origin)
    every_table = (verdicts, *budgets, *of_parts, *of_laws, *checklists, *runs, *setup, coverage, *more)
    html = (
        environment()
        .get_template("template.html")
        .render(
            study=params.study.name,
            abstract=[*(sentence for one in chapters for sentence in one.in_short), *in_words(laws)],
            subtitle=params.report.subtitle,
            parts=parts,
            laws=laws,
            external=external,
            verdicts=verdicts,
            runs=runs,
            checklists=checklists,
            setup=setup,
            coverage=coverage,
            changes=changes,
            ledger=ledger,
            origin=origin,
        )
    )
    figures = [figure for part in (*parts, *laws, *external) for figure in part.figures]
    return Page(html, files_of(figures, every_table))


def write_page(folder: Path, page: Page) -> None:
    """Write index.html and the files beside it as `folder`, in the place of an earlier report."""
    with replaced(folder.parent, [folder.name]) as out:
        write_files(out / folder.name, page.files)
        (out / folder.name / "index.html").write_text(page.html, encoding="utf-8", newline="\n")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` to their paths under `folder`."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def files_of(figures: Sequence[Figure], tables: Sequence[Table]) -> dict[str, bytes]:
    """The files of figures and tables by path relative to the page."""
    files: dict[str, bytes] = {}
    for more in (
        *({f"figures/{figure.name}.svg": figure.svg.encode()} for figure in figures),
        *(table_files(figure.name, figure.table) for figure in figures),
        *(table_files(table.name, table.frame) for table in tables),
    ):
        if taken := files.keys() & more.keys():
            raise ValueError(f"reports/{min(taken)}: two figures or tables have this name")
        files |= more
    return files
