"""Every law keeps the protocol: what it must have, that its page is short, and that torch loads in its runs alone."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.experiments.experiment import known_laws
from pipeline.params import LAWS, Section, read_params
from pipeline.reporting.inputs import read_tables
from pipeline.reporting.law_parts import draw_law, law_part

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("law", known_laws())
def test_a_law_is_a_page_with_four_steps_dials_and_a_test(law):
    module = import_module(f"{LAWS}.{law}")
    assert issubclass(module.Settings, Section)
    assert all(callable(getattr(module, step)) for step in ("plan", "run", "judge", "draw"))
    assert "Source" in module.__doc__
    assert "Regime" in module.__doc__
    place = ROOT / LAWS.replace(".", "/") / law
    files = list(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert {path.name: True for path in files} == {
        path.name: len(path.read_text().splitlines()) < 250 for path in files
    }
    assert (ROOT / f"tests/experiments/laws/test_{law}.py").exists()


def test_the_default_study_tests_every_law():
    assert sorted(read_params(ROOT / "params.yaml").laws.tested) == known_laws()


@pytest.mark.parametrize("law", known_laws())
def test_the_published_findings_of_a_law_have_their_figures(law):
    judged = json.loads((ROOT / "results/findings.json").read_text())["experiments"][law]
    figures = draw_law(law, judged["summary"], read_tables(ROOT / "results/fit" / law), ROOT / "results")
    part = law_part(law, judged, figures)
    names = [figure.name for figure in part.figures]
    assert 1 <= len(names) == len(set(names))
    assert all(name.startswith(law) for name in names)
    assert {one["figure"] for one in judged["findings"]} <= set(names)
    roles = {one["role"] for one in judged["findings"]}
    assert roles == {"law", "boundary", "control"}
    for one in judged["findings"]:
        if one["role"] == "control":
            assert one["verdict"] in ("violated", "not_reached"), one["statement"]


def test_torch_stays_out_of_the_stages_that_only_plan_and_read():
    code = """
import sys
import stages.plan, stages.collect, stages.fit, stages.report
from pipeline.params import read_params
read_params()
print([name for name in sys.modules if name.split(".")[0] == "torch"][:3])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
