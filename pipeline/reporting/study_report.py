"""The report of a study from the files that it left: one chapter, the laws, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.experiments.language_model.describe import describe
from pipeline.experiments.language_model.draw import draw
from pipeline.params import Params
from pipeline.reporting.drawn import Drawn
from pipeline.reporting.inputs import read_inputs
from pipeline.reporting.law_parts import law_part
from pipeline.reporting.provenance import read_provenance
from pipeline.reporting.report import Part, build_page, write_page
from pipeline.reporting.tuning import tuning


def write_report(params: Params, root: Path, project: Path, remarks: Sequence[str] = ()) -> str:
    """Writes reports/ into the folder `root` from what lies there, and returns a line on it.

    Laws that were not judged there have no part in it; `remarks` open the words of the page. The provenance is that of
    the repository in `project`.
    """
    inputs = read_inputs(root)
    judged, tables = inputs.experiments[LANGUAGE_MODEL], inputs.tables[LANGUAGE_MODEL]
    chapter = describe(judged["summary"], tables, inputs.runs, params.language_model)
    chapter = replace(
        chapter, in_short=(*remarks, *chapter.in_short), abstract=(*chapter.abstract, *tuning(inputs.experiments)[0])
    )
    parts = [Part(chapter, draw(judged["summary"], tables, inputs.runs, inputs.curves))]
    drawn = Drawn(root)
    laws = [
        law_part(name, said, drawn.figures(name, said, inputs.tables[name]))
        for name in params.laws.tested
        if (said := inputs.experiments.get(name))
    ]
    page = build_page(params, inputs, parts, laws, read_provenance(project))
    write_page(root / "reports", page)
    size = len(page.html.encode()) / 1e6
    return f"{root / 'reports/index.html'}: {size:.2f} MB, {len(page.files)} figures and tables beside it"
