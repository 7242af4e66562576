"""Outputs that are replaced together: those of before stay until the new ones are whole. On real folders."""

import pytest

from pipeline.outputs import replaced

NAMES = ("fit", "findings.json")


@pytest.fixture
def results(tmp_path):
    """A folder with the outputs of an earlier run, one of which lists a law, and a file of another stage."""
    with replaced(tmp_path / "results", NAMES) as out:
        (out / "fit/law_that_is_off").mkdir(parents=True)
        (out / "fit/law_that_is_off/table.csv").write_text("x\n1\n")
        (out / "findings.json").write_text("{}")
    (tmp_path / "results/runs.csv").write_text("run_id\n")
    return tmp_path / "results"


def held(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_nothing_of_an_earlier_run_is_left_beside_the_new_outputs(results):
    with replaced(results, NAMES, ["runs.csv"]) as out:
        assert (out / "runs.csv").read_text() == "run_id\n"
        (out / "fit/law").mkdir(parents=True)
        (out / "fit/law/table.csv").write_text("x\n2\n")
        (out / "findings.json").write_text("[]")
    assert held(results) == {"fit/law/table.csv": "x\n2\n", "findings.json": "[]", "runs.csv": "run_id\n"}
    assert sorted(path.name for path in results.iterdir()) == ["findings.json", "fit", "runs.csv"]


@pytest.mark.parametrize("fault", [ValueError("fit.estimator"), KeyboardInterrupt()], ids=["a fault", "Ctrl-C"])
def test_a_run_that_does_not_end_leaves_all_as_it_was(results, fault):
    def end():
        with replaced(results, NAMES, ["runs.csv"]) as out:
            (out / "fit").mkdir()
            raise fault

    before = held(results)
    with pytest.raises(type(fault)):
        end()
    assert held(results) == before


def test_an_output_that_was_not_written_takes_none_away(results):
    before = held(results)
    with pytest.raises(FileNotFoundError), replaced(results, NAMES):
        pass
    assert held(results) == before


def test_what_a_killed_run_left_aside_is_not_taken_for_an_output(results):
    (results / ".fit.partial/written/fit").mkdir(parents=True)
    (results / ".fit.partial/written/fit/stale.csv").write_text("x\n")
    with replaced(results, NAMES) as out:
        assert not list(out.iterdir())
        (out / "fit").mkdir()
        (out / "findings.json").write_text("[]")
    assert held(results) == {"findings.json": "[]", "runs.csv": "run_id\n"}
