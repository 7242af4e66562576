"""`study laws` on a real Ray session: laws alone, without the scaling study, and only what is new."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpus.prepare import prepare_corpus
from pipeline.experiments.experiment import known_laws
from pipeline.params import read_params
from tests.small_study import LAW, SMALL

ROOT = Path(__file__).resolve().parents[2]


def laws(folder, *words):
    clean = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "STUDY_WORKERS")}
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.command import main; main()", "laws", *words],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def row(printed, law):
    return next(line for line in printed.splitlines() if line.startswith(law)).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with a small prepared corpus, and one law that is on and has never run."""
    root = tmp_path_factory.mktemp("laws")
    text = SMALL.replace("pipeline/**/*.py", str(ROOT / "pipeline/corpus/*.py")).replace("laws: {}\n", LAW)
    (root / "params.yaml").write_text(text)
    prepare_corpus(read_params(root / "params.yaml").prepare, root / "data/tokens", lambda *_: None)
    return root


def test_laws_are_listed_run_once_and_judged(folder):
    code, listed, _ = laws(folder)
    assert code == 0
    assert {line.split()[0] for line in listed.splitlines()[1:]} == set(known_laws())
    assert row(listed, "deep_linear")[1:4] == ["not", "tested", "0/20"]

    code, printed, errors = laws(folder, "deep_linear", "--run")
    assert code == 0, errors
    assert "20 runs planned: 20 new, 0 reused" in printed
    assert "deep_linear: 20 runs ended" in printed
    judged = json.loads((folder / "results/findings.json").read_text())["experiments"]
    assert list(judged) == ["deep_linear"]
    assert judged["deep_linear"]["findings"][0]["verdict"] == "holds"
    for finding in judged["deep_linear"]["findings"]:
        assert (folder / f"reports/figures/{finding['figure']}.svg").read_text().startswith("<svg")
        assert (folder / f"reports/tables/{finding['figure']}.csv").exists()

    code, again, _ = laws(folder, "--run")
    assert code == 0
    assert "20 runs planned: 0 new, 20 reused" in again
    assert row(again, "deep_linear")[3] == "20/20"


def test_a_law_that_is_off_is_not_run(folder):
    code, listed, _ = laws(folder, "grokking")
    assert (code, row(listed, "grokking")) == (0, ["grokking", "off"])
    told = "error: LAW: 'grokking' is off; laws.grokking in params.yaml turns it on\n"
    assert laws(folder, "grokking", "--run") == (1, "", told)


def test_an_unknown_law_is_named(folder):
    code, _, errors = laws(folder, "deep_liner")
    assert code == 1
    assert errors.startswith("error: LAW: 'deep_liner' is not one of ")
    assert len(errors.splitlines()) == 1
