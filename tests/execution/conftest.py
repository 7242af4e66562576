"""A small real corpus and a real Ray session, shared by the tests of execution."""

from dataclasses import replace

import pytest

from pipeline.corpus.prepare import prepare_corpus
from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import Cluster
from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.plan import plan
from pipeline.params import BytesTokenizer, Evaluation, Prepare, Replicates, SizesByTokens, TextSource, read_params

STUDY = read_params().language_model


@pytest.fixture(scope="session")
def tokens(tmp_path_factory):
    """The repository's own source text, prepared."""
    folder = tmp_path_factory.mktemp("corpus")
    settings = Prepare(
        sources=[TextSource(kind="text", path="pipeline/**/*.py")],
        tokenizer=BytesTokenizer(kind="bytes"),
        validation_fraction=0.3,
    )
    prepare_corpus(settings, folder / "tokens", lambda *_: None)
    return folder / "tokens"


@pytest.fixture(scope="session")
def facts(tokens):
    corpus = open_corpus(tokens)
    return CorpusFacts(corpus.digest, corpus.vocab_size, len(corpus.train))


@pytest.fixture(scope="session")
def specs(facts):
    """Two sizes at two token counts: 8 runs of a second or two."""
    return make_specs(facts)


def make_specs(facts, widths=(16, 32), tokens=(30_000, 60_000), **changes):
    grid = SizesByTokens(kind="sizes_by_tokens", widths=list(widths), tokens=list(tokens))
    changes = {
        "grid": grid,
        "replicates": Replicates(),
        "evaluation": Evaluation(windows=64, windows_per_document=64),
    } | changes
    return plan(STUDY.model_copy(update=changes), facts)


def blowing_up(facts):
    wild = STUDY.optimizer.model_copy(update={"matrix_rate": 1e30, "head_rate": 1e30})
    return make_specs(facts, widths=[16], tokens=[150_000], optimizer=wild)


def broken(facts):
    """Specs planned for a corpus that is not there any more."""
    return make_specs(replace(facts, digest="another"), widths=[16], tokens=[30_000])


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as running:
        yield running
