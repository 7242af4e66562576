"""The study as a whole: the plan of its experiments from params.yaml and the corpus, the bill, and the training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.copies import publish_corpus
from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import Cluster, num_workers
from pipeline.execution.driver_lock import only_driver
from pipeline.execution.executor import Event, Executor, Policy
from pipeline.execution.progress import Display
from pipeline.execution.run_store import RunStore
from pipeline.execution.throughput import Throughput
from pipeline.experiments.experiment import LANGUAGE_MODEL, StudyFacts, step
from pipeline.experiments.language_model.plan import describe
from pipeline.params import Params, Train
from pipeline.planning.bill import Bill, draw_bill
from pipeline.planning.run_spec import SETTLED, RunSpec
from pipeline.planning.waivers import read_waivers, waived_runs, with_descendants
from pipeline.tracking import run_mirror


def plan_runs(params: Params, tokens: Path) -> tuple[list[RunSpec], list[dict]]:
    """The runs of all experiments that are on, and the descriptive columns of each (see planning/table.py)."""
    facts = study_facts(params, tokens)
    specs = step(LANGUAGE_MODEL, "plan")(params.language_model, facts)
    described = [describe(spec, params.language_model.seed) for spec in specs]
    laws = [spec for runs in _plan_laws(params, facts).values() for spec in runs]
    return specs + laws, described + [{}] * len(laws)


def plan_laws(params: Params, tokens: Path) -> dict[str, list[RunSpec]]:
    """The runs of every law of learning mechanics that is on, by its name."""
    return _plan_laws(params, study_facts(params, tokens))


def _plan_laws(params: Params, facts: StudyFacts) -> dict[str, list[RunSpec]]:
    return {name: step(name, "plan")(settings, facts) for name, settings in params.laws.tested.items()}


def study_facts(params: Params, tokens: Path) -> StudyFacts:
    """What planners may know of the study. Raises ValueError where its corpus is not prepared."""
    if not tokens.exists():
        raise ValueError(f"{tokens}: the corpus is not prepared yet; run `dvc repro prepare` first")
    corpus = open_corpus(tokens)
    return StudyFacts(corpus.digest, corpus.vocab_size, len(corpus.train), params.language_model)


@dataclass(frozen=True)
class Sorted:
    """The runs of a plan by what there is to do: `ready` to train or to reuse, `waived`, and held up because they, or
    the run they start from, `failed`; the last two with a reason by run_id. `held` is the status of every run in the
    store."""

    held: dict[str, str | None]
    ready: list[RunSpec]
    waived: dict[str, str]
    failed: dict[str, str]

    @property
    def new(self) -> bool:
        """Whether there is anything to train."""
        return any(self.held[spec.run_id] not in SETTLED for spec in self.ready)


def sort_out(specs: list[RunSpec], store: RunStore) -> Sorted:
    """The runs of a plan, with those that a study leaves alone told apart: a run that failed waits for a decision."""
    waived = waived_runs(specs, read_waivers(store.root))
    held = {spec.run_id: store.status(spec.run_id) for spec in specs}
    failures = {
        run_id: store.result(run_id)["reason"].strip().splitlines()[-1]
        for run_id, status in held.items()
        if run_id not in waived and status == "failed"
    }
    rest = [spec for spec in specs if spec.run_id not in waived and held[spec.run_id] not in SETTLED]
    failed = with_descendants(rest, failures, "failed")
    return Sorted(held, [spec for spec in specs if spec.run_id not in waived | failed], waived, failed)


def make_bill(specs: list[RunSpec], store: RunStore) -> Bill:
    """The bill of `specs` against what `store` holds."""
    return _bill_of(sort_out(specs, store), store)


def _bill_of(runs: Sorted, store: RunStore) -> Bill:
    throughput = Throughput(runs.ready if runs.new else [], store)
    basis = throughput.basis if runs.new else "nothing to train"
    left_out = {"waived": len(runs.waived), "held up by a failure": len(runs.failed)}
    left_out = {what: number for what, number in left_out.items() if number}
    return draw_bill(runs.ready, runs.held.get, throughput.seconds, num_workers(), basis, left_out)


def train_runs(
    specs: list[RunSpec], store: RunStore, settings: Train, tokens: Path, mirrored: bool = True
) -> dict[str, str]:
    """Trains every run of `specs` that is neither settled nor waived nor failed before; run_id -> reason of all that
    have failed by then. MLflow gets each as it ends, if `mirrored`.

    A record that does not hold what was written is told, set aside and trained again. Raises BlockingIOError while
    another driver trains on this store, ValueError or OSError before any training when the corpus is damaged, or the
    storage refuses it.
    """
    with only_driver(store.root), ExitStack() as stack:
        store.tidy()
        runs, session = sort_out(specs, store), None
        with ThreadPoolExecutor(1) as beside:  # reading all records takes a second or more, starting Ray three
            check = beside.submit(store.all_damaged, [spec.run_id for spec in specs])
            if runs.new:
                session = stack.enter_context(_session(store, tokens, mirrored))
        if damaged := check.result():
            _set_aside(damaged, store)
            runs = sort_out(specs, store)
        bill = _bill_of(runs, store)
        print(bill.summary, flush=True)
        for folder in ("runs", "telemetry"):
            (store.root / folder).mkdir(exist_ok=True)
        if not bill.new:
            return runs.failed
        cluster, track = session or stack.enter_context(_session(store, tokens, mirrored))
        policy = Policy(
            tokens.resolve(),
            settings.micro_batch_tokens,
            settings.checkpoint_seconds,
            settings.retries,
            publish_corpus(tokens, store.storage) if store.storage else None,
            settings.devices,
            settings.silence_seconds,
            settings.shard,
        )
        with Display(bill) as display:
            return runs.failed | Executor(runs.ready, store, cluster, policy, (display, *track), bill.seconds).run()


@contextmanager
def _session(
    store: RunStore, tokens: Path, mirrored: bool
) -> Iterator[tuple[Cluster, tuple[Callable[[Event], None], ...]]]:
    """A cluster, and who else wants the executor's events: the mirror, which may still write while the cluster ends."""
    open_corpus(tokens)
    with run_mirror(store) if mirrored else nullcontext() as track, Cluster() as cluster:
        yield cluster, (track,) if track else ()


def _set_aside(damaged: dict[str, str], store: RunStore) -> None:
    for run_id, why in damaged.items():
        print(f"damaged: {why}: it is done now, and the record is kept as {store.set_aside(run_id)}", flush=True)


def tell_failed(failed: dict[str, str], specs: list[RunSpec]) -> int:
    """The exit code of a training: 1 where runs failed, which are told in a table with what can be done."""
    if not failed:
        return 0
    labels = {spec.run_id: spec.label or f"{spec.experiment} {spec.kind}" for spec in specs}
    width = max(len(labels[run_id]) for run_id in failed)
    print(f"failed: {len(failed)} of {len(specs)} runs; the others are kept", file=sys.stderr)
    for run_id, reason in sorted(failed.items(), key=lambda entry: (labels[entry[0]], entry[0])):
        print(f"  {run_id}  {labels[run_id]:<{width}}  {reason}", file=sys.stderr)
    print(
        "  traceback: runs/<run_id>/result.json; to train a run again: study retry RUN_ID;"
        " to go on without it: study waive RUN_ID --reason TEXT",
        file=sys.stderr,
    )
    return 1
