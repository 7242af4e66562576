"""The study as a whole: its experiments, their plan from params.yaml and the corpus, the bill, and what they say."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import num_workers
from pipeline.execution.run_store import RunStore
from pipeline.execution.throughput import Throughput
from pipeline.experiments.experiment import LANGUAGE_MODEL, Judgement, StudyFacts, reads, step
from pipeline.experiments.language_model.plan import describe
from pipeline.params import Params
from pipeline.planning.bill import Bill, draw_bill
from pipeline.planning.run_spec import RunSpec


def plan_runs(params: Params, tokens: Path, with_language_model: bool = True) -> tuple[list[RunSpec], list[dict]]:
    """The runs of all experiments that are on, and the descriptive columns of each (see planning/table.py)."""
    corpus = open_corpus(tokens)
    facts = StudyFacts(corpus.digest, corpus.vocab_size, len(corpus.train), params.language_model)
    specs = step(LANGUAGE_MODEL, "plan")(params.language_model, facts) if with_language_model else []
    described = [describe(spec, params.language_model.seed) for spec in specs]
    for name, settings in params.laws.tested.items():
        specs += step(name, "plan")(settings, facts)
    return specs, described + [{}] * (len(specs) - len(described))


def make_bill(specs: list[RunSpec], store: RunStore) -> Bill:
    """The bill of `specs` against what `store` holds."""
    throughput = Throughput(specs, store)
    return draw_bill(specs, store.status, throughput.seconds, num_workers(), throughput.basis)


def judge_law(params: Params, name: str, results: Path) -> Judgement:
    """What the runs of the law `name` say, from the tables that stage collect left in `results`."""
    return step(name, "judge")(params.laws.tested[name], *law_tables(name, results))


def law_tables(name: str, results: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(runs, curves) that the law `name` is judged by: its own, or those of the experiment that it READS."""
    source = results if reads(name) == LANGUAGE_MODEL else results / "laws" / name
    return pl.read_parquet(source / "runs.parquet"), pl.read_parquet(source / "curves.parquet")
