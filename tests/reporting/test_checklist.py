"""The checklist and the appendix of coverage, against the study they are filled in from and a table written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline.reporting.inputs import read_inputs

GROUPS = ["The law", "The training runs", "The data of the fit", "The fit"]
COVERAGE = """law,estimator,num_runs,noise_sd,quantity,coverage,low,high,num_studies
chinchilla,huber,30,0.003,alpha,0.951,0.936,0.964,1000
chinchilla,huber,30,0.003,E,0.911,0.892,0.928,1000
q_form,l2,60,0.003,loss at 10x,0.985,0.975,0.991,1000
"""


def checklist_of(root: Path) -> pl.DataFrame:
    return pl.read_csv(root / "reports/tables/checklist.csv")


def answer(table: pl.DataFrame, start: str) -> tuple[str, str]:
    (row,) = table.filter(pl.col("question").str.starts_with(start)).iter_rows(named=True)
    return row["answer"], row["answered"]


@pytest.fixture(scope="module")
def unidentified(make_study: Callable[..., Path], build: Callable[[Path], Path]) -> Path:
    return build(make_study(tokens=(150_000,), replicates=False, telemetry=False))


def with_coverage(study: Path, folder: Path, text: str) -> Path:
    """A copy of the study in `folder`, with `text` as its table of coverage."""
    root = Path(shutil.copytree(study, folder / "study"))
    (root / "benchmarks/results").mkdir(parents=True)
    (root / "benchmarks/results/coverage.csv").write_text(text)
    return root


@pytest.mark.parametrize("kind", ["report", "refused", "unidentified"])
def test_every_question_has_an_answer_whatever_the_study(kind: str, request: pytest.FixtureRequest) -> None:
    table = checklist_of(request.getfixturevalue(kind))
    assert table["group"].unique(maintain_order=True).to_list() == GROUPS
    assert len(table) >= 25
    assert table["answer"].str.strip_chars(" .–").str.len_chars().min() >= 3
    assert set(table["answered"]) <= {"yes", "partly", "no"}
    assert table["answer"].str.contains(r"\b(?:nan|inf|None|null)\b|–\u202f").sum() == 0
    assert table["question"].n_unique() == len(table)


def test_answers_are_those_of_the_study(report: Path) -> None:
    table = checklist_of(report)
    runs = pl.read_parquet(report / "results/runs.parquet")
    lost = runs.filter(pl.col("status") != "finished")
    said, reported = answer(table, "What was left out")
    assert said.startswith(f"{len(lost)} runs (1 diverged, 1 failed)")
    assert reported == "yes"
    assert "Muon" in answer(table, "Which optimiser")[0]
    assert "maximal-update" in answer(table, "How do hyperparameters")[0]
    assert "1.2\u202fM tokens" in answer(table, "On how many tokens")[0]
    assert answer(table, "How many seeds")[1] == "yes"
    assert answer(table, "Was it tested on larger runs")[1] == "yes"
    assert answer(table, "Were the hyperparameters tuned")[1] == "no"
    assert "resampled (N, D) cells; there are too few trees to resample" in answer(table, "How uncertain")[0]


def test_what_a_poor_study_lacks_is_not_called_reported(unidentified: Path, refused: Path) -> None:
    table = checklist_of(unidentified)
    for question in ("Which form", "How many seeds", "Was it tested on larger", "How uncertain", "From which scale"):
        assert answer(table, question)[1] == "no", question
    assert answer(table, "What did it cost")[1] == "partly"
    said, reported = answer(checklist_of(refused), "Which form")
    assert reported == "no"
    assert "above 5 %" in said


def test_simulated_coverage_is_shown_with_what_it_says_of_95_percent(
    report: Path, unidentified: Path, tmp_path: Path, build: Callable[[Path], Path]
) -> None:
    assert "there is no benchmarks/results/coverage.csv" in (report / "reports/index.html").read_text(encoding="utf-8")
    root = with_coverage(unidentified, tmp_path, COVERAGE)
    html = (build(root) / "reports/index.html").read_text(encoding="utf-8")
    caption, appendix = html[html.index('id="table-coverage"') :].split("<table>", 1)
    assert appendix.index("chinchilla, huber") < appendix.index("as nominal") < appendix.index("too narrow")
    assert appendix.index("q_form, l2") < appendix.index("too wide")
    assert "Of 3 rows 1 are as nominal, 1 too narrow and 1 too wide." in caption
    assert '<data value="0.911">91.1\u202f%</data>' in appendix
    published = pl.read_csv(root / "reports/tables/coverage.csv")
    assert published.equals(pl.read_csv(root / "benchmarks/results/coverage.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("law,estimator\na,b\n", "coverage.csv: num_runs: no such column"),
        ("", "coverage.csv: not csv"),
        (COVERAGE.replace("0.951", "x"), "coverage.csv: .*coverage"),
    ],
)
def test_a_damaged_table_of_coverage_is_refused_by_name(
    unidentified: Path, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_inputs(with_coverage(unidentified, tmp_path, text))
