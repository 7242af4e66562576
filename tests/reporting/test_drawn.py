"""A law's figures are drawn again when, and only when, something that they are drawn from has changed."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from pipeline.params import read_params
from pipeline.reporting import drawn
from pipeline.reporting.drawn import Drawn
from pipeline.reporting.inputs import read_tables
from pipeline.reporting.law_parts import draw_law

ROOT = Path(__file__).resolve().parents[2]
LAW = "double_descent"
LAWS = sorted(read_params(ROOT / "params.yaml").laws.tested)
JUDGED = json.loads((ROOT / "results/findings.json").read_text())["experiments"]


@pytest.fixture
def study(tmp_path):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    return tmp_path


@pytest.fixture
def judged():
    return json.loads(json.dumps(JUDGED[LAW]))


def figures(study, judged, law=LAW):
    return Drawn(study).figures(law, judged, read_tables(study / "results/fit" / law))


def kept(study):
    (folder,) = (study / "scratch/drawn").iterdir()
    return folder


@pytest.mark.parametrize("law", LAWS)
def test_figures_that_were_drawn_before_are_those_drawn_now(study, law):
    now = draw_law(law, JUDGED[law]["summary"], read_tables(study / "results/fit" / law), study / "results")
    figures(study, JUDGED[law], law)
    again = figures(study, JUDGED[law], law)
    assert len(again) == len(now)
    for one, other in zip(again, now, strict=True):
        assert one.table.schema == other.table.schema
        assert one.table.equals(other.table)
        words = [{name: value for name, value in vars(figure).items() if name != "table"} for figure in (one, other)]
        assert words[0] == words[1]


def test_nothing_is_drawn_twice(study, judged):
    figures(study, judged)
    before = kept(study).stat()
    figures(study, judged)
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
    figures(study, judged)
    before = kept(study).name
    change(study, judged)
    figures(study, judged)
    assert kept(study).name != before


def test_other_code_draws_again(study, judged, monkeypatch):
    shutil.copytree(ROOT / "pipeline", study / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(drawn, "CODE", study / "pipeline")
    figures(study, judged)
    before = kept(study).name
    with open(study / "pipeline/reporting/figures.py", "a") as file:
        file.write("# another figure\n")
    figures(study, judged)
    assert kept(study).name != before


def test_a_folder_half_written_is_not_taken_for_one(study, judged):
    whole = figures(study, judged)
    kept(study).rename(kept(study).with_suffix(".partial"))
    (kept(study) / "figures.json").unlink()
    assert [figure.svg for figure in figures(study, judged)] == [figure.svg for figure in whole]
    assert not kept(study).suffix
