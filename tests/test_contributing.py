"""The worked example of CONTRIBUTING.md is a law that works: put into a copy of the project, it is run and tested."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_pipeline import environment

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the code with the law, the section and the test that CONTRIBUTING.md shows."""
    root = tmp_path_factory.mktemp("project")
    for name in ("pipeline", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    law, test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (section,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    params = (ROOT / "params.yaml").read_text()
    assert params.count("\nlaws:") == 1
    (root / "params.yaml").write_text(re.sub(r"\nlaws:.*\n", lambda match: match[0] + section, params))
    (root / "pipeline/experiments/laws/quadratic.py").write_text(law)
    (root / "tests/experiments/laws/test_quadratic.py").write_text(test)
    return root


def run(project, *command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment(project), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_test_passes(project):
    assert "2 passed" in run(project, "pytest", "tests/experiments/laws/test_quadratic.py", "-p", "no:cacheprovider")


def test_it_is_judged_and_drawn(project):
    printed = run(project, "tests.experiments.laws.bench", "quadratic", ".")
    assert "law      holds        loss on a quadratic" in printed
    assert "12 runs" in printed
    assert (project / "quadratic_factor.svg").read_text().startswith("<svg")
