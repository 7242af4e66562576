"""What DVC does not watch is named with its field, its place and what to do; what it watches is not."""

from pathlib import Path

import pytest

from pipeline.params import PackageSource, TextSource
from pipeline.unwatched import sources_elsewhere


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
