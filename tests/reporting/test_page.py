"""The published page against the files it was made from: numbers, exclusions, bytes, escaping, poor studies, bad input.

Reference: results/findings.json and results/runs.parquet of a study drawn from a known surface and judged by the
study's own judge; sums of the bill are recomputed here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline.fitting.laws import QForm
from pipeline.reporting.tables import TABLE_KINDS
from tests.reporting.published import Tables, grouped, page_of, plain, summary_of, unknown_words, without_provenance

ROOT = Path(__file__).parents[2]


def test_every_parameter_is_that_of_findings_json_with_both_intervals(report: Path) -> None:
    summary = summary_of(report)
    shown = grouped(Tables(page_of(report)).tables["table-parameters"])
    symbols = {"E": "E, nats/token", "A": "A", "alpha": "α", "B": "B", "beta": "β", "q": "q"}
    published = pl.read_csv(report / "reports/tables/parameters.csv")
    assert len(shown) == 2
    for heading, name in zip(shown, ["chinchilla", "q_form"], strict=True):
        law = summary["laws"][name]
        assert law["status"] == "converged"
        assert heading.startswith({"chinchilla": "Chinchilla law", "q_form": "q-form"}[name])
        assert ("chosen" in heading) == (name == summary["chosen"])
        for key, value in law["params"].items():
            cells = [values for _, values in shown[heading][symbols[key]]]
            trees = law["tree_intervals"][key] or []
            assert cells[0] == [value]
            assert cells[1:5] == [
                law["intervals"][key],
                [law["standard_errors"][key]],
                trees,
                [law["tree_standard_errors"][key]] if trees else [],
            ]
            row = published.filter((pl.col("law") == name) & (pl.col("parameter") == key)).row(0, named=True)
            assert (row["value"], row["cells_low"], row["cells_high"]) == (value, *law["intervals"][key])
    assert summary["estimator"] in page_of(report)


def test_every_number_of_the_law_table_is_that_of_findings_json(report: Path) -> None:
    summary = summary_of(report)
    rows = {row[0][0]: row[1:] for row in Tables(page_of(report)).tables["table-laws"][1:]}
    names = ["chinchilla", "q_form"]
    simple = {"rms residual of ln L": "rms", "largest residual of ln L": "max", "objective": "objective"}
    for label, key in simple.items():
        for name, (text, values) in zip(names, rows[label], strict=True):
            exact = summary["laws"][name][key]
            assert values == [exact]
            assert plain(text) == pytest.approx(exact * (100 if text.endswith("%") else 1), rel=0.06)
    for name, (_, values) in zip(names, rows["lack of fit, p"], strict=True):
        assert values == [summary["laws"][name]["lack_of_fit"]["p"]]
    for name, (_, values) in zip(names, rows["hold-out, rms error"], strict=True):
        assert values[0] == summary["holdout"]["laws"][name]["rms"]


def test_excluded_runs_are_listed_with_their_reasons_and_nothing_is_markup(report: Path) -> None:
    html = page_of(report)
    listed = Tables(html).tables["table-excluded"]
    runs = pl.read_parquet(report / "results/runs.parquet").filter(pl.col("status") != "finished")
    assert len(runs) == 2
    assert {row[0][0] for row in listed[1:]} == set(runs["run_id"])
    assert {row[-1][0] for row in listed[1:]} == set(runs["reason"])
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert re.findall(r"<script[^>]*>", html) == [
        '<script type="application/json" class="stored">',
        '<script type="application/json" class="points">',
        "<script>",
    ]
    assert "<h1>Loss &amp; &lt;scale&gt;</h1>" in html


def test_every_run_is_listed_with_its_loss(report: Path) -> None:
    rows = Tables(page_of(report)).tables["table-runs"]
    column = [text for text, _ in rows[0]].index("loss, nats/token")
    runs = pl.read_parquet(report / "results/runs.parquet")
    assert [row[column][1] for row in rows[1:]] == [[] if loss is None else [loss] for loss in runs["loss"]]


def test_the_bill_adds_up(report: Path) -> None:
    runs = pl.read_parquet(report / "results/runs.parquet")
    rows = Tables(page_of(report)).tables["table-bill"]
    heading = [text for text, _ in rows[0]]
    total = {name: values for name, (_, values) in zip(heading, rows[-1], strict=True)}
    assert total["FLOPs"][0] == pytest.approx(runs["flops_own"].sum(), rel=1e-12)
    points = runs.filter(pl.col("kind") != "trunk")
    assert total["FLOPs from scratch"][0] == pytest.approx(points["C"].sum(), rel=1e-12)
    finished = runs.filter(pl.col("status") == "finished")
    own = (finished["D"] - finished["start_tokens"]).sum()
    assert total["seconds of all workers"][0] == pytest.approx(own / 50_000, rel=1e-12)
    assert total["tokens/s"][0] == pytest.approx(62_500, rel=1e-12)
    share = finished["flops_own"].sum() / 1e11 / (own / 62_500)
    assert total["of matrix products"][0] == pytest.approx(share, rel=1e-12)


def test_the_same_inputs_give_the_same_bytes(report: Path, build: Callable[[Path], Path]) -> None:
    folder = report / "reports"
    first = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    page = page_of(report)
    stray = folder / "figures/of_an_earlier_report.svg"
    stray.write_text("<svg/>")
    build(report)
    second = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    assert stray not in second
    assert without_provenance(page_of(report)) == without_provenance(page)
    assert 'id="table-laws"' in without_provenance(page)
    assert 'id="table-versions"' not in without_provenance(page)
    assert second.keys() == first.keys()
    assert [path for path in first if path.suffix == ".svg" and first[path] != second[path]] == []
    assert len([path for path in first if path.suffix == ".svg"]) >= 16


def test_every_link_of_the_page_has_its_file_and_no_id_stands_twice(report: Path) -> None:
    html = page_of(report)
    assert len(html.encode()) < 1_500_000
    links = set(re.findall(r'href="((?:figures|tables)/[^"]+)"', html))
    assert {link.split("/")[0] for link in links} == {"figures", "tables"}
    assert [link for link in sorted(links) if not (report / "reports" / link).exists()] == []
    written = {f"{path.parent.name}/{path.name}" for path in (report / "reports").glob("*/*")}
    assert written == links
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert (report / "reports/figures/loss_against_compute.svg").exists()


def test_every_table_is_there_as_csv_parquet_and_json_with_the_same_rows(report: Path) -> None:
    folder = report / "reports/tables"
    names = {path.stem for path in folder.iterdir()}
    assert len(names) > 30
    assert {path.name for path in folder.iterdir()} == {f"{name}.{end}" for name in names for end in TABLE_KINDS}
    for name in sorted(names):
        parquet = pl.read_parquet(folder / f"{name}.parquet")
        rows = json.loads((folder / f"{name}.json").read_text())
        assert [list(row) for row in rows] == [parquet.columns] * len(parquet)
        listed = pl.read_csv(folder / f"{name}.csv", infer_schema=False)
        assert (listed.columns, len(listed)) == (parquet.columns, len(parquet))
        for column, kind in parquet.schema.items():
            if kind == pl.Float64:
                known = parquet[column].fill_nan(None)
                assert [row[column] for row in rows] == known.to_list()
                assert listed[column].cast(pl.Float64).fill_nan(None).equals(known, null_equal=True)


def test_the_abstract_says_what_the_law_says(report: Path) -> None:
    summary = summary_of(report)
    words = re.search(r'<section id="abstract">(.*?)</section>', page_of(report), flags=re.DOTALL)[1]
    points = pl.read_csv(report / "results/fit/language_model/points.csv")
    largest = points.sort("C").row(-1, named=True)
    law = QForm(**summary["laws"]["q_form"]["params"])
    assert summary["chosen"] == "q_form"
    assert f"{len(points)} language models of" in words
    for doubled in ({"N": 2}, {"D": 2}):
        N, D = (largest[letter] * doubled.get(letter, 1) for letter in "ND")
        saved = 1 - float(law.loss(N, D) / law.loss(largest["N"], largest["D"]))
        assert f"{100 * saved:.2g}\u202f%" in words
    sizes = 10 ** summary["frontier"]["a"]
    low, high = (10**end for end in summary["frontier"]["a_interval"])
    assert f"{sizes:.1f} [{low:.1f}, {high:.1f}] times the parameters" in words
    assert f"{10 / sizes:.1f} [{10 / high:.1f}, {10 / low:.1f}] times the tokens" in words
    assert f"missed the larger ones by {100 * summary['holdout']['laws']['q_form']['rms']:.2g}\u202f%" in words


def test_a_study_that_identifies_no_law_still_has_its_page(make_study, build: Callable[[Path], Path]) -> None:
    root = build(make_study(tokens=(150_000,), replicates=False, telemetry=False))
    html = page_of(root)
    assert "do not identify a law" in html
    assert "No run was timed" in html
    assert "There are no replicate seeds" in html
    assert unknown_words(html) == []
    assert "loss_against_compute.svg" in html
    checks = re.search(r'<section id="checks">.*?<section id="checklist">', html, flags=re.DOTALL)[0]
    assert "<figure" not in checks
    assert "none: no law to plan with" in html


def test_a_study_without_failures_says_so(make_study, build: Callable[[Path], Path]) -> None:
    html = page_of(build(make_study(tokens=(150_000, 300_000), failures=False)))
    assert "none: every planned run is in the law" in html


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "results/findings.json").unlink(), "results/findings.json: no such file"),
        (lambda root: (root / "results/findings.json").write_text("{,"), "results/findings.json: line 1: not JSON"),
        (lambda root: (root / "results/runs.parquet").write_text("x"), "results/runs.parquet: not parquet"),
        (lambda root: (root / "telemetry/x.json").write_text("{}"), "telemetry/x.json: run_id: missing"),
    ],
)
def test_damaged_input_is_one_line_that_names_the_file(make_study, damage, message: str) -> None:
    root = make_study(tokens=(150_000,), replicates=False)
    damage(root)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
