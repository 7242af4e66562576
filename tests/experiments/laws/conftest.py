"""A corpus for the laws that train the study's own model: the project's own source text, prepared once."""

import pytest

from pipeline.corpus.prepare import prepare_corpus
from pipeline.params import BytesTokenizer, Prepare, TextSource


@pytest.fixture(scope="session")
def tokens(tmp_path_factory):
    """The folder of its tokens, which is only read."""
    folder = tmp_path_factory.mktemp("corpus") / "tokens"
    source = TextSource(kind="text", path="pipeline/**/*.py")
    settings = Prepare(sources=[source], tokenizer=BytesTokenizer(kind="bytes"), validation_fraction=0.3)
    prepare_corpus(settings, folder, lambda *_: None)
    return folder
