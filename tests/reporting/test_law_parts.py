"""Laws of learning mechanics on the page, from a real law's own runs: every number, every link, every figure.

Reference: results/findings.json as the law's own judge wrote it.
"""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from pipeline.experiments.experiment import described
from pipeline.reporting.law_parts import paragraphs
from pipeline.reporting.tuning import tuning
from pipeline.results import write_judgements
from tests.experiments.laws.bench import try_law
from tests.small_study import LAW

CHEAP = {"seeds": [0, 1], "rates": [0.01, 0.005], "strengths": [2.0, 1.0], "num_inputs": 6, "num_hidden": 8}


@pytest.fixture(scope="module")
def page(make_study, build) -> Path:
    """The folder of a study with one law, and its report."""
    root = make_study()
    tried = try_law("deep_linear", **CHEAP)
    folder = root / "results/laws/deep_linear"
    folder.mkdir(parents=True)
    tried.runs.write_parquet(folder / "runs.parquet")
    tried.curves.write_parquet(folder / "curves.parquet")
    write_judgements({"deep_linear": tried.judgement}, root / "results")
    with (root / "params.yaml").open("a") as file:
        file.write(LAW)
    return build(root)


def judged(root: Path) -> dict:
    return json.loads((root / "results/findings.json").read_text())["experiments"]


def test_the_page_opens_with_one_table_of_all_laws(page):
    html = (page / "reports/index.html").read_text()
    opening = html[html.index('id="verdicts"') : html.index('id="law"')]
    study, law = judged(page)["language_model"]["findings"], judged(page)["deep_linear"]["findings"]
    table = pl.read_csv(page / "reports/tables/findings.csv")
    assert table.height == len(study) + 1
    assert table["statement"].to_list() == [*(one["statement"] for one in study), law[0]["statement"]]
    assert 'href="#law-deep_linear"' in opening
    claims = [one["verdict"] for one in law if one["role"] != "control"]
    assert f"{claims.count('holds')} of {len(claims)} claims hold" in opening


def test_every_claim_of_a_law_stands_in_its_section_with_a_figure_that_is_there(page):
    html = (page / "reports/index.html").read_text()
    section = html[html.index('id="law-deep_linear"') : html.index('id="checklist"')]
    assert described("deep_linear")[0] in section
    for finding in judged(page)["deep_linear"]["findings"]:
        assert finding["statement"] in section
        assert f'id="figure-{finding["figure"]}"' in section
    for sentence in judged(page)["deep_linear"]["summary"]["says"]:
        assert sentence in section
    table = pl.read_csv(page / "reports/tables/deep_linear_findings.csv")
    assert table["measured"].to_list() == [one["measured"] for one in judged(page)["deep_linear"]["findings"]]


def test_every_link_on_the_page_leads_somewhere(page):
    html = (page / "reports/index.html").read_text()
    targets = set(re.findall(r'\bid="([^"]+)"', html))
    links = set(re.findall(r'<a href="#([^"]+)"', html))
    assert links <= targets
    for name in re.findall(r'<a href="((?:tables|figures)/[^"]+)"', html):
        assert (page / "reports" / name).exists()


@pytest.mark.parametrize(
    ("rate", "batch", "inside"),
    [(True, True, True), (True, False, False), (False, None, False), (True, None, None), (None, None, None)],
)
def test_the_study_is_tuned_when_both_laws_say_so(rate, batch, inside):
    def said(law, verdict):
        return {law: {"summary": {"study": {"inside": verdict, "sentence": f"{law} says so."}}}}

    assert tuning(said("mup_transfer", rate) | said("batch_size", batch)) == (
        ("mup_transfer says so.", "batch_size says so."),
        inside,
    )
    assert tuning(said("mup_transfer", True)) == (("mup_transfer says so.",), None)
    assert tuning({}) == ((), None)


def test_a_docstring_becomes_paragraphs_and_formulas():
    found = paragraphs("First words\nand more.\n\n    x = 1,\n    y = 2.\n\nRegime. All of it.\n")
    assert [(one.text, one.formula) for one in found] == [
        ("First words and more.", False),
        ("x = 1,\ny = 2.", True),
        ("Regime. All of it.", False),
    ]
