"""Runs tried again or waived: where that cannot be done, one line says what is missing or which run to name instead.

Against a real run store and a real plan: a trunk that failed, one that goes on from it, and a cooldown of that.
"""

import json
from pathlib import Path

import pytest

from pipeline.command import main
from pipeline.corpus.prepare import prepare_corpus
from pipeline.driver import tell_failed
from pipeline.execution.run_store import RunStore
from pipeline.params import read_params
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import plan_table
from pipeline.planning.waivers import write_waivers
from pipeline.study import sort_out
from tests.small_study import SMALL

ROOT = Path(__file__).resolve().parents[2]
REASON = ["--reason", "why"]


def run(label, parent=None):
    parent_id = parent and parent.run_id
    return RunSpec("language_model", "run", {"label": label}, 0, "data", "code", parent_id, label=label)


TRUNK = run("width 32 trunk to 2")
LATER = run("width 32 trunk to 4", TRUNK)
SPECS = [TRUNK, run("width 32 cooldown to 2", TRUNK), LATER, run("width 32 cooldown to 4", LATER), run("sound")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with parameters, from where commands are called."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def failed(folder):
    """The store of a study whose first trunk failed."""
    Path("plan").mkdir()
    plan_table(SPECS, [{}] * len(SPECS)).write_parquet("plan/runs.parquet")
    store = RunStore(folder)
    store.add_failure(TRUNK, "Traceback\nKeyError: 'x'")
    return store


def refused(capsys, *words):
    """The one line on standard error of a command that ends with 1."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (1, 1)
    return said


@pytest.mark.parametrize(
    "words", [["retry", "abd7427d"], ["waive", "abd7427d", *REASON], ["ui"], ["report", "--partial"]]
)
def test_a_folder_without_parameters_is_told_and_left_as_it_is(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, *words) == "error: params.yaml: no such file\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize("place", [1, 2, 3])
def test_the_failed_run_is_named_for_one_that_waits_for_it(capsys, place):
    one = SPECS[place].run_id
    instead = f"error: RUN_ID: {one} is not trained yet: it starts from {TRUNK.run_id}, which failed; retry or waive"
    assert refused(capsys, "waive", one, *REASON).startswith(instead)
    assert refused(capsys, "retry", one).startswith(instead)
    with pytest.raises(SystemExit):
        main(["waive", TRUNK.run_id, *REASON])
    capsys.readouterr()
    instead = f"{one} is not trained yet: it starts from {TRUNK.run_id}, which is waived, and is left out with it"
    assert instead in refused(capsys, "waive", one, *REASON)
    assert json.loads(Path("waivers.json").read_text()) == {TRUNK.run_id: "why"}


@pytest.mark.usefixtures("failed")
def test_a_run_that_waits_for_nobody_is_only_not_trained_yet(capsys):
    said = f"error: RUN_ID: {SPECS[4].run_id} is not trained yet: only a failed run can be waived\n"
    assert refused(capsys, "waive", SPECS[4].run_id, *REASON) == said


def test_the_table_of_failures_says_which_ids_to_give(failed, capsys):
    assert tell_failed(sort_out(SPECS, failed).failed, SPECS) == 1
    head, first, *rest = capsys.readouterr().err.splitlines()
    assert head == "failed: 1 of 5 runs and 3 below it; the others are kept"
    assert first.split()[0] == TRUNK.run_id
    assert {line.split()[0] for line in rest[:3]} == {spec.run_id for spec in SPECS[1:4]}
    assert rest[4:] == ["  RUN_ID is that of the first row: what is below starts from it and goes with it"]


def test_a_waiver_without_a_run_is_told_beside_the_bill(folder, capsys):
    write_waivers(folder, {"f" * 16: "mistyped"})
    Path("params.yaml").write_text(SMALL.replace("pipeline/**/*.py", f"{ROOT}/pipeline/**/*.py"))
    prepare_corpus(read_params().prepare, Path("data/tokens"), lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main(["bill"])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.err) == (0, "")
    assert f"\nwaivers.json: {'f' * 16}: no planned run has this id\n" in printed.out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", [["retry", "abd7427d"], ["waive", "abd7427d", *REASON]])
def test_without_a_plan_it_is_the_plan_that_is_missing(capsys, words):
    said = refused(capsys, *words)
    assert said.startswith("error: plan/runs.parquet: no such file, and no run 'abd7427d' was tried here; plan the")


@pytest.mark.usefixtures("folder")
def test_a_waiver_is_taken_back_without_a_plan(capsys):
    run_id = "abd7427d31dc9be9"
    Path("waivers.json").write_text(json.dumps({run_id: "why"}))
    with pytest.raises(SystemExit) as ended:
        main(["retry", run_id[:5]])
    assert ended.value.code == 0, capsys.readouterr().err
    assert json.loads(Path("waivers.json").read_text()) == {}
