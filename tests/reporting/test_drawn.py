"""A law's part of the page is drawn again when, and only when, something that it is made from has changed."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from pipeline.reporting import drawn
from pipeline.reporting.drawn import Drawn
from pipeline.reporting.inputs import read_tables
from pipeline.reporting.law_parts import law_part

ROOT = Path(__file__).resolve().parents[2]
LAW = "double_descent"


@pytest.fixture
def study(tmp_path):
    for part in (f"laws/{LAW}", f"fit/{LAW}"):
        shutil.copytree(ROOT / "results" / part, tmp_path / "results" / part)
    return tmp_path


@pytest.fixture
def judged():
    return json.loads((ROOT / "results/findings.json").read_text())["experiments"][LAW]


def part(study, judged):
    return Drawn(study).part(LAW, judged, read_tables(study / "results/fit" / LAW))


def kept(study):
    (path,) = (study / "scratch/drawn").iterdir()
    return path


def test_a_part_that_was_drawn_before_is_the_part_drawn_now(study, judged):
    now = law_part(LAW, judged, read_tables(study / "results/fit" / LAW), study / "results")
    for _ in range(2):
        again = part(study, judged)
        assert [figure.svg for figure in again.figures] == [figure.svg for figure in now.figures]
        assert all(a.table.equals(b.table) for a, b in zip(again.figures, now.figures, strict=True))
        assert again.findings.rows == now.findings.rows
        assert again.paragraphs == now.paragraphs


def test_nothing_is_drawn_twice(study, judged):
    part(study, judged)
    before = kept(study).stat()
    part(study, judged)
    after = kept(study).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def change_table(study, judged):
    path = next((study / "results/fit" / LAW).glob("*.csv"))
    path.write_text(path.read_text() + "\n")


def change_runs(study, judged):
    path = study / "results/laws" / LAW / "runs.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)


def change_words(study, judged):
    judged["summary"]["says"][0] += " And so on."


@pytest.mark.parametrize("change", [change_table, change_runs, change_words])
def test_what_has_changed_is_drawn_again_and_the_old_goes(study, judged, change):
    part(study, judged)
    before = kept(study).name
    change(study, judged)
    again = part(study, judged)
    assert kept(study).name != before
    assert again.says[0] == judged["summary"]["says"][0]


def test_other_code_draws_again(study, judged, monkeypatch):
    shutil.copytree(ROOT / "pipeline", study / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(drawn, "CODE", study / "pipeline")
    part(study, judged)
    before = kept(study).name
    with open(study / "pipeline/reporting/figures.py", "a") as file:
        file.write("# another figure\n")
    part(study, judged)
    assert kept(study).name != before


def test_a_part_half_written_is_not_taken_for_one(study, judged):
    part(study, judged)
    path = kept(study)
    path.rename(path.with_suffix(".partial"))
    part(study, judged)
    assert kept(study).suffix == ".pickle"
