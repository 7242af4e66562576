"""What DVC does not watch is named with its field, its place and what to do; what it watches is not."""

from pathlib import Path

import pytest

from pipeline.params import Model, PackageSource, TextSource
from pipeline.unwatched import code_elsewhere, sources_elsewhere


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("corpus", False),
        ("./corpus/**/*.txt", False),
        (str(Path("corpus/mine").absolute()), False),
        ("s3://bucket/corpus", False),
        ("hf://datasets/owner/name/*.parquet", False),
        ("/data/text", True),
        ("~/text", True),
        ("file:///data/text", True),
        ("corpus/../own/*.py", True),
        ("corpora/a.txt", True),
    ],
)
def test_a_folder_of_this_machine_outside_corpus_is_told(path, told):
    sources = [PackageSource(kind="packages", names=["sympy"]), TextSource(kind="text", path=path)]
    note = (
        f"note: params.yaml: prepare.sources.1.path: {path} lies outside corpus/, which DVC watches: after a change"
        " there run `dvc repro -f prepare`"
    )
    assert sources_elsewhere(sources) == [note] * told


@pytest.mark.parametrize(
    ("build", "outside"),
    [
        (None, None),
        ("own.mixer:build", None),
        ("tests.models.test_own:ours", "tests/models/test_own.py"),
    ],
)
def test_a_models_files_outside_own_are_told(build, outside):
    model = Model(depth=2, head_size=16, context=64, build=build)
    told = code_elsewhere(model)
    assert len(told) == bool(outside)
    assert all(
        note.startswith(f"note: params.yaml: language_model.model.build: {build} uses {outside}") for note in told
    )
    assert all(note.endswith("outside own/, which DVC watches: after an edit run `dvc repro -f plan`") for note in told)
