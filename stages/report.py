"""Draw the figures and write the report: results/ -> reports/."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.experiments.language_model.describe import describe
from pipeline.experiments.language_model.draw import draw
from pipeline.params import read_params
from pipeline.reporting.inputs import read_inputs
from pipeline.reporting.law_parts import law_part
from pipeline.reporting.provenance import read_provenance
from pipeline.reporting.report import Part, build_page, write_page
from pipeline.reporting.tuning import tuning
from pipeline.stage import run_stage
from pipeline.tracking import mirror_beside

ROOT = Path()


def main() -> None:
    """Writes the report, and mirrors it with the results that it shows."""
    with mirror_beside("collect", "fit", "report"):
        write_report()


def write_report() -> None:
    """Reads what the stages before left, and writes reports/index.html with its figures and tables."""
    params = read_params()
    inputs = read_inputs(ROOT)
    judged, tables = inputs.experiments[LANGUAGE_MODEL], inputs.tables[LANGUAGE_MODEL]
    chapter = describe(judged["summary"], tables, inputs.runs, params.language_model)
    chapter = replace(chapter, abstract=(*chapter.abstract, *tuning(inputs.experiments)[0]))
    parts = [Part(chapter, draw(judged["summary"], tables, inputs.runs, inputs.curves))]
    laws = [
        law_part(name, inputs.experiments[name], inputs.tables[name], ROOT / "results") for name in params.laws.tested
    ]
    page = build_page(params, inputs, parts, laws, read_provenance(ROOT))
    write_page(ROOT / "reports", page)
    print(f"reports/index.html: {len(page.html.encode()) / 1e6:.2f} MB, {len(page.files)} figures and tables beside it")


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
