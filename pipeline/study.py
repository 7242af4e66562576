"""The study as a whole: the plan of its experiments from params.yaml and the corpus, the bill, and the training."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import Cluster, num_workers
from pipeline.execution.executor import Executor, Policy
from pipeline.execution.progress import Display
from pipeline.execution.run_store import RunStore
from pipeline.execution.throughput import Throughput
from pipeline.experiments.experiment import LANGUAGE_MODEL, StudyFacts, step
from pipeline.experiments.language_model.plan import describe
from pipeline.params import Params, Train
from pipeline.planning.bill import Bill, draw_bill
from pipeline.planning.run_spec import RunSpec
from pipeline.tracking import run_mirror


def plan_runs(params: Params, tokens: Path) -> tuple[list[RunSpec], list[dict]]:
    """The runs of all experiments that are on, and the descriptive columns of each (see planning/table.py)."""
    facts = _facts(params, tokens)
    specs = step(LANGUAGE_MODEL, "plan")(params.language_model, facts)
    described = [describe(spec, params.language_model.seed) for spec in specs]
    laws = [spec for runs in _plan_laws(params, facts).values() for spec in runs]
    return specs + laws, described + [{}] * len(laws)


def plan_laws(params: Params, tokens: Path) -> dict[str, list[RunSpec]]:
    """The runs of every law of learning mechanics that is on, by its name."""
    return _plan_laws(params, _facts(params, tokens))


def _plan_laws(params: Params, facts: StudyFacts) -> dict[str, list[RunSpec]]:
    return {name: step(name, "plan")(settings, facts) for name, settings in params.laws.tested.items()}


def _facts(params: Params, tokens: Path) -> StudyFacts:
    if not tokens.exists():
        raise ValueError(f"{tokens}: the corpus is not prepared yet; run `dvc repro prepare` first")
    corpus = open_corpus(tokens)
    return StudyFacts(corpus.digest, corpus.vocab_size, len(corpus.train), params.language_model)


def make_bill(specs: list[RunSpec], store: RunStore) -> Bill:
    """The bill of `specs` against what `store` holds."""
    throughput = Throughput(specs, store)
    return draw_bill(specs, store.status, throughput.seconds, num_workers(), throughput.basis)


def train_runs(specs: list[RunSpec], store: RunStore, settings: Train, tokens: Path) -> dict[str, str]:
    """Trains every run of `specs` that is not settled; run_id -> reason of those that failed."""
    bill = make_bill(specs, store)
    print(bill.summary, flush=True)
    for folder in ("runs", "telemetry"):
        (store.root / folder).mkdir(exist_ok=True)
    if not bill.new:
        return {}
    policy = Policy(tokens.resolve(), settings.micro_batch_tokens, settings.checkpoint_seconds, settings.retries)
    with Cluster() as cluster, Display(bill) as display, run_mirror(store) as track:
        return Executor(specs, store, cluster, policy, (display, track), bill.seconds).run()


def tell_failed(failed: dict[str, str]) -> int:
    """The exit code of a training with these failed runs, each of which is told in one line."""
    for run_id, reason in sorted(failed.items()):
        print(f"failed: {run_id}: {reason} (traceback: runs/{run_id}/result.json)", file=sys.stderr)
    return 1 if failed else 0
