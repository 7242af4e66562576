"""Draw the figures and write the report: results/ -> reports/."""

from __future__ import annotations

from pathlib import Path

from pipeline.experiments.language_model.describe import describe
from pipeline.experiments.language_model.draw import draw
from pipeline.params import read_params
from pipeline.reporting.inputs import read_inputs
from pipeline.reporting.provenance import read_provenance
from pipeline.reporting.report import Part, build_page, write_page
from pipeline.stage import run_stage
from pipeline.tracking import mirror

ROOT = Path()
CHAPTERS = {"language_model": (describe, draw)}


def main() -> None:
    """Writes the report and mirrors it."""
    write_report()
    mirror("report")


def write_report() -> None:
    """Reads what the stages before left, and writes reports/index.html with its figures and tables."""
    params = read_params()
    inputs = read_inputs(ROOT)
    parts = []
    for name, judged in inputs.experiments.items():
        words, paint = CHAPTERS[name]
        tables = inputs.tables[name]
        runs = inputs.runs.filter(inputs.runs["experiment"] == name)
        chapter = words(judged["summary"], tables, runs, getattr(params, name))
        parts.append(Part(chapter, paint(judged["summary"], tables, runs, inputs.curves)))
    page = build_page(params, inputs, parts, read_provenance(ROOT))
    write_page(ROOT / "reports", page)
    print(f"reports/index.html: {len(page.html.encode()) / 1e6:.2f} MB, {len(page.files)} figures and tables beside it")


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
