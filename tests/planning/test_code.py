"""The identity of code follows what computes a number, wherever it lies, and nothing else."""

import hashlib

import pytest

from pipeline.experiments.experiment import known_laws
from pipeline.params import LAWS
from pipeline.planning.code import code_digest, reached_digest

LAW = """
from math import sqrt

from pipeline.science import kernel
from pipeline import shapes

RATE = 0.1
LABEL = "a law"


def run(spec: Spec) -> Result:
    return step(spec) * shapes.AREA


def step(x):
    return kernel(sqrt(x)) * RATE


def draw(x):
    return LABEL * x
"""
SCIENCE = """
from pipeline.constants import SCALE


def kernel(x):
    return SCALE * x


def unused(x):
    return 3 * x
"""


@pytest.fixture
def project(tmp_path):
    """A function that writes the project with one text changed and returns the digest of its run."""
    count = iter(range(100))

    def digest(before="", after=""):
        root = tmp_path / str(next(count))
        (root / "pipeline").mkdir(parents=True)
        texts = {"law": LAW, "science": SCIENCE, "constants": "SCALE = 2\n", "shapes": "AREA = 4\n"}
        assert not before or sum(before in text for text in texts.values()) == 1
        for name, text in texts.items():
            (root / f"pipeline/{name}.py").write_text(text.replace(before, after) if before else text)
        return reached_digest("pipeline.law", "run", root)

    return digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("* RATE", "+ RATE"),
        ("RATE = 0.1", "RATE = 0.2"),
        ("SCALE * x", "SCALE + x"),
        ("SCALE = 2", "SCALE = 3"),
        ("AREA = 4", "AREA = 5"),
        ("import sqrt", "import log as sqrt"),
    ],
)
def test_an_edit_of_what_run_reaches_changes_the_digest(project, before, after):
    assert project(before, after) != project()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LABEL * x", "LABEL + x"),
        ("a law", "another law"),
        ("3 * x", "4 * x"),
        ("spec: Spec", "spec: Other"),
        ("    return step", '    """One run."""\n    # A comment.\n    return step'),
    ],
)
def test_an_edit_of_anything_else_does_not(project, before, after):
    assert project(before, after) == project()


@pytest.mark.parametrize("law", known_laws())
def test_the_digest_of_every_law_reaches_its_own_run(law):
    digests = {reached_digest(f"{LAWS}.{law}", name) for name in ("run", "judge")}
    assert len(digests) == 2
    assert hashlib.sha256().hexdigest() not in digests


def test_a_function_that_is_not_there_is_named(tmp_path):
    (tmp_path / "law.py").write_text("def judge(): ...\n")
    with pytest.raises(ValueError, match="law: run is not defined there"):
        reached_digest("law", "run", tmp_path)


def test_the_code_digest_sees_code_and_nothing_else(tmp_path):
    def of(text):
        (tmp_path / "module.py").write_text(text)
        return code_digest(["module"], tmp_path)

    plain = of("def f(x):\n    return x + 1\n")
    assert of('"""A module."""\n# A comment.\ndef f( x ):\n    """Adds."""\n\n    return (x + 1)  # one\n') == plain
    assert of("def f(x):\n    return x + 2\n") != plain
    assert of("def f(y):\n    return y + 1\n") != plain
