"""The driver of a training: records verified, Ray started, runs carried out, MLflow written beside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from pipeline.corpus.copies import publish_corpus
from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import Cluster
from pipeline.execution.driver_lock import only_driver
from pipeline.execution.executor import Event, Executor, Policy
from pipeline.execution.progress import Display
from pipeline.execution.run_store import RunStore
from pipeline.params import Train
from pipeline.planning.run_spec import RunSpec
from pipeline.study import bill_of, sort_out
from pipeline.tracking import run_mirror


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
        for folder in ("runs", "telemetry"):
            (store.root / folder).mkdir(exist_ok=True)
        runs, session = sort_out(specs, store), None
        with ThreadPoolExecutor(1) as beside:  # reading all records takes a second or more, starting Ray three
            check = beside.submit(store.all_damaged, [spec.run_id for spec in specs])
            if runs.new:
                session = stack.enter_context(_session(store, tokens, mirrored))
        if damaged := check.result():
            _set_aside(damaged, store)
            runs = sort_out(specs, store)
        store.tidy()
        bill = bill_of(runs, store)
        print(bill.summary, flush=True)
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
    """The exit code of a training: 1 where runs failed, which are told in a table with what can be done: first those
    that failed themselves, whose ids are the ones to decide on, then those that start from them."""
    if not failed:
        return 0
    labels = {spec.run_id: spec.label or f"{spec.experiment} {spec.kind}" for spec in specs}
    held = {spec.run_id for spec in specs if spec.run_id in failed and spec.needs in failed}
    alone, width = len(failed) - len(held), max(len(labels[run_id]) for run_id in failed)
    more = f" and {len(held)} below {'it' if alone == 1 else 'them'}" if held else ""
    print(f"failed: {alone} of {len(specs)} runs{more}; the others are kept", file=sys.stderr)
    for run_id, reason in sorted(failed.items(), key=lambda entry: (entry[0] in held, labels[entry[0]], entry[0])):
        print(f"  {run_id}  {labels[run_id]:<{width}}  {reason}", file=sys.stderr)
    print(
        "  traceback: runs/<run_id>/result.json; to train a run again: study retry RUN_ID;"
        " to go on without it: study waive RUN_ID --reason TEXT",
        file=sys.stderr,
    )
    if held:
        rows, them = ("the first row", "it") if alone == 1 else (f"one of the first {alone} rows", "them")
        print(f"  RUN_ID is that of {rows}: what is below starts from {them} and goes with {them}", file=sys.stderr)
    return 1
