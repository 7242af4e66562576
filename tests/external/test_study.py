"""Proves that tables from elsewhere stand beside a study: collected as they are, and fitted by a law of their own.

Reference: the law that the table was drawn from, and `study fit` on the same file.
"""

import json

import numpy as np
import polars as pl
import pytest

from pipeline.external.collect import collect_external
from pipeline.external.judge import judge_external
from pipeline.params import External, Fit, read_params
from tests.command.known_laws import TRUTH, design, loss, noise
from tests.small_study import SMALL

FIT = Fit(convention="total", bootstrap=200)
N, D = design(40)
ROWS = pl.DataFrame(
    {"size": N, "tokens": D, "loss": loss(N, D) * noise(40, 0.003), "optimizer": np.resize(["adamw", "muon"], 40)}
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with external/theirs.csv in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "external").mkdir()
    (tmp_path / "results").mkdir()
    shuffled = ROWS.sample(fraction=1.0, shuffle=True, seed=1)
    more = pl.DataFrame({"size": [1e9], "tokens": [2e10], "loss": [99.0], "optimizer": ["adamw"]})
    pl.concat([more, shuffled]).write_csv(tmp_path / "external/theirs.csv")
    return tmp_path


def entry(**more):
    return External(**{"name": "theirs", "path": "external/theirs.csv", "columns": {"N": "size"}} | more)


def test_a_table_is_collected_with_its_rows_and_fitted_as_study_fit_does(folder, study):
    entries = [entry(where=["loss<50"], published={"source": "them & <i>theirs</i>", "numbers": {"alpha": 0.34}})]
    said = collect_external(entries, folder / "results")
    assert said == ["external: theirs: 40 rows of external/theirs.csv; 40 of 41 rows chosen by loss<50"]
    collected = pl.read_parquet(folder / "results/external/theirs.parquet")
    assert collected.columns == ["name", "role", "row", "copy", "N", "D", "loss"]
    assert set(collected["role"]) == {"external"}
    assert collected["row"].to_list() == list(range(2, 42))
    assert collected.sort("N")["loss"].to_list() == ROWS.sort("size")["loss"].to_list()
    judge_external(entries, FIT, folder / "results")
    found = json.loads((folder / "results/findings.json").read_text(encoding="utf-8"))["external"]["theirs"]
    words = ("--N", "size", "--where", "loss<50", "--bootstrap", 200, "--seed", 0, "--starts", FIT.num_starts)
    same = study("fit", "external/theirs.csv", *words)
    for key in ("params", "intervals", "objective", "warnings", "span", "notes", "num_runs", "holdout"):
        assert found[key] == same.json[key], key
    assert all(found["intervals"][name][0] < value < found["intervals"][name][1] for name, value in TRUTH.items())
    (row,) = found["published"]["rows"]
    assert row["standard_errors"] == pytest.approx(
        (found["params"]["alpha"] - 0.34) / found["standard_errors"]["alpha"]
    )
    points = pl.read_csv(folder / "results/fit/external/theirs/points.csv")
    assert points.height == 40
    assert points["residual"].std() == pytest.approx(0.003, rel=0.4)


def test_copies_are_those_of_the_whole_table_not_of_what_is_collected(folder, study):
    rounded = pl.concat([ROWS.with_columns(pl.lit(2.5).alias("loss"), seed=pl.lit(seed)) for seed in (0, 1, 1)])
    rounded.write_csv(folder / "external/theirs.csv")
    collect_external([entry(despite=["plateau"])], folder / "results")
    collected = pl.read_parquet(folder / "results/external/theirs.parquet")
    assert collected["copy"].to_list() == [False] * 80 + [True] * 40
    judge_external([entry()], FIT, folder / "results")
    found = json.loads((folder / "results/findings.json").read_text(encoding="utf-8"))["external"]["theirs"]
    assert (found["num_rows"], found["num_runs"]) == (120, 80)


def test_what_a_table_left_behind_goes_with_it(folder):
    results = folder / "results"
    (results / "findings.json").write_text('{"experiments": {"grokking": {"findings": []}}}', encoding="utf-8")
    kept = {"experiments": {"grokking": {"findings": []}}}
    for entries in ([entry(where=["loss<50"])], []):
        collect_external(entries, results)
        judge_external(entries, FIT, results)
    assert sorted(path.name for path in (results / "external").iterdir()) == ["sources.json"]
    assert json.loads((results / "external/sources.json").read_text(encoding="utf-8")) == []
    assert not (results / "fit/external").exists()
    assert json.loads((results / "findings.json").read_text(encoding="utf-8")) == kept


def test_a_law_of_further_columns_finds_them_again(folder):
    entries = [entry(law="two_recipes", recipe="optimizer", where=["loss<50"])]
    collect_external(entries, folder / "results")
    judge_external(entries, FIT, folder / "results")
    found = json.loads((folder / "results/findings.json").read_text(encoding="utf-8"))["external"]["theirs"]
    assert {found["recipes"]["first"], found["recipes"]["second"]} == {"adamw", "muon"}
    low, high = found["recipes"]["compute_multiplier_interval"]
    assert low < 1.0 < high


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"path": "external/none.csv"}, "external/none.csv: No such file or directory"),
        ({"columns": {"N": "width"}}, "external/theirs.csv: columns.N: no column 'width'; the table has size, tokens"),
        (
            {"columns": {}},
            "external/theirs.csv: no column of N (parameters); the law chinchilla needs it; name it by col",
        ),
        ({"where": ["host=a"]}, "external/theirs.csv: where host=a: no column 'host'"),
        ({"where": ["loss>100"]}, "external/theirs.csv: where loss>100: none of 41 rows is left"),
        ({"where": ["optimizer<1"]}, "external/theirs.csv: row 1: where optimizer<1: 'adamw' is not a number"),
        (
            {"columns": {"N": "size", "L": "optimizer"}},
            "row 1 (first of 41): column 'optimizer': 'adamw' is not a finite",
        ),
        ({"law": "data_constrained"}, "external/theirs.csv: no column 'unique_tokens'"),
    ],
)
def test_a_table_that_cannot_be_is_told_in_one_line_and_loses_nothing(folder, more, told):
    results = folder / "results"
    collect_external([entry(where=["loss<50"])], results)
    before = (results / "external/theirs.parquet").read_bytes()
    with pytest.raises(ValueError, match=r"^params.yaml: collect.external.1 \(other\): external/") as raised:
        collect_external([entry(where=["loss<50"]), entry(name="other", **more)], results)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (results / "external/theirs.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("name: x, path: runs.csv", "external.0.path: 'runs.csv' does not lie in external/"),
        ("name: x, path: external/../runs.csv", "external.0.path: 'external/../runs.csv' does not lie in external/"),
        ("name: X y, path: external/a.csv", "external.0.name: "),
        ("name: x, path: external/a.csv, law: cubic", "external.0.law: 'cubic' is none of chinchilla"),
        ("name: x, path: external/a.csv, estimator: l3", "external.0.estimator: 'l3' is none of huber"),
        ("name: x, path: external/a.csv, noise: 0.1", "external.0.noise: 0.1 has no effect with the law chinchilla"),
        (
            "name: x, path: external/a.csv, law: isoflop, noise: .inf",
            "external.0.noise: Input should be a finite number (value inf)",
        ),
        ("name: x, path: external/a.csv, recipe: y", "external.0.recipe: 'y' has no effect with the law chinchilla"),
        ("name: x, path: external/a.csv, where: [loss]", "external.0.where: 'loss' is not COLUMN=VALUE"),
        ("name: x, path: external/a.csv, despite: [all]", "external.0.despite: 'all' is none of plateau"),
        ("name: x, path: external/a.csv, columns: {M: a}", "external.0.columns.M: unknown key (value 'a')"),
        (
            "name: x, path: external/a.csv, published: {source: y, numbers: {K: 1}}",
            "external.0.published: 'K' is none of E, A, alpha, B, beta, a, b",
        ),
        (
            "name: x, path: external/a.csv, published: {source: y, numbers: {E: low}}",
            "external.0.published: numbers: E: 'low' is not a number",
        ),
        ("name: x, path: external/a.csv}, {name: x, path: external/b.csv", "external: 2 tables are called 'x'"),
    ],
)
def test_an_entry_that_cannot_be_is_told_before_anything_runs(tmp_path, fields, told):
    path = tmp_path / "params.yaml"
    path.write_text(SMALL.replace("collect: {}", f"collect: {{external: [{{{fields}}}]}}"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"params.yaml: collect\.") as raised:
        read_params(path)
    assert told in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
