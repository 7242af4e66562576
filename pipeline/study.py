"""The study as a whole: its plan from params.yaml and the corpus, and the bill against what is stored."""

from __future__ import annotations

from pathlib import Path

from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import num_workers
from pipeline.execution.run_store import RunStore
from pipeline.execution.throughput import Throughput
from pipeline.experiments.experiment import CorpusFacts, step
from pipeline.experiments.language_model.plan import describe
from pipeline.params import Params
from pipeline.planning.bill import Bill, draw_bill
from pipeline.planning.run_spec import RunSpec


def plan_runs(params: Params, tokens: Path) -> tuple[list[RunSpec], list[dict]]:
    """The runs of all experiments that are on, and the descriptive columns of each (see planning/table.py)."""
    corpus = open_corpus(tokens)
    facts = CorpusFacts(corpus.digest, corpus.vocab_size, len(corpus.train))
    specs = [spec for name in params.plan.experiments for spec in step(name, "plan")(getattr(params, name), facts)]
    return specs, [describe(spec, params.language_model.seed) for spec in specs]


def make_bill(specs: list[RunSpec], store: RunStore) -> Bill:
    """The bill of `specs` against what `store` holds."""
    throughput = Throughput(specs, store)
    return draw_bill(specs, store.status, throughput.seconds, num_workers(), throughput.basis)
