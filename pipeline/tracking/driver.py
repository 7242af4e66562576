"""Mirrors a study to MLflow, from the driver alone and each thing once; a store that is down stops nothing.

Opening MLflow takes seconds, more than most stages. So only three stages do: prepare; train, which has time to spare
and mirrors the plan too; and report, the last, beside which a process of its own mirrors what was collected and fitted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.execution.run_store import RunStore
from pipeline.params import read_section
from pipeline.planning.run_spec import SETTLED, digest
from pipeline.reporting.provenance import read_commit
from pipeline.storage import storage_uri
from pipeline.tracking.run_records import planned_facts, published_records, run_hash, run_record
from pipeline.tracking.stage_records import OUTPUTS, stage_record, train_identity
from pipeline.tracking.store import MlflowStore, StoreFault, shown, tracking_uri

if TYPE_CHECKING:
    from pipeline.execution.executor import Event

GO = "written"
_given_up: set[str] = set()
_held: dict[str, dict[str, str]] = {}
"""What the store at an address is known to hold by the `run_mirror` before, for the next `mirror`."""


def mirror(*stages: str) -> None:
    """Mirrors stages of the study in the working directory, whose outputs are written.

    The same outputs are never mirrored twice. With stage train go all training runs that MLflow does not hold yet; what
    somebody has deleted there comes back with `track_all` alone.
    """
    study = Study(Path.cwd())
    for stage in stages:
        with _going_on(study.uri) as wanted:
            if wanted:
                if stage == "train":
                    on_disk = study.on_disk(study.store.recorded())
                    study.mirror_runs(on_disk, _held.pop(study.uri, None) or study.held(on_disk))
                study.mlflow.write(stage_record(stage, study.root))


@contextmanager
def mirror_beside(*stages: str) -> Iterator[None]:
    """Mirrors all but the last of these stages in a process beside the block, and the last one after it.

    A block that fails leaves the last stage unmirrored, and its error stands alone. Raises ChildProcessError when the
    process, which then has told why, failed.
    """
    command = [sys.executable, "-m", "pipeline.tracking", *stages]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield
        except BaseException:
            process.communicate()
            raise
        sys.stderr.write(process.communicate(GO)[1])
    if process.returncode:
        raise ChildProcessError("the MLflow mirror failed, for the reason above; `make track` mirrors everything later")


def mirror_when_told(*stages: str) -> None:
    """The other side of `mirror_beside`: the last stage waits for GO on standard input."""
    mirror(*stages[:-1])
    if sys.stdin.read() == GO:
        mirror(stages[-1])


@contextmanager
def run_mirror(store: RunStore) -> Iterator[Callable[[Event], None]]:
    """A function for the executor's events that mirrors every run as it ends, in a thread of its own.

    Leaving the block waits for the runs that are still to be mirrored. A bug met there is raised then.
    """
    study = Study(store.root)
    before = store.recorded()
    tasks: list[Future] = []

    def write(run_id: str) -> None:
        with _going_on(study.uri) as wanted:
            if wanted:
                if study.uri not in _held:
                    _held[study.uri] = study.held(study.on_disk(before))
                study.mirror_run(run_id)
                _held[study.uri][run_id] = run_hash(store, run_id)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow") as pool:

        def track(event: Event) -> None:
            if event.kind in SETTLED:
                tasks.append(pool.submit(write, event.spec.run_id))

        yield track
    for task in tasks:
        task.result()


def track_all() -> int:
    """The number of MLflow runs written so that MLflow holds all that the files in the working directory say.

    Raises StoreFault, an OSError, when MLflow cannot be reached.
    """
    study = Study(Path.cwd())
    try:
        stages = [stage for stage, paths in OUTPUTS.items() if all((study.root / path).exists() for path in paths)]
        on_disk = study.on_disk(study.store.recorded())
        written, num_runs = study.mirror_runs(on_disk, study.mlflow.training_runs())
        for stage in stages:
            if stage != "train" or study.planned:
                written += study.mlflow.write(stage_record(stage, study.root))
    except StoreFault as error:
        raise StoreFault(_told(study.uri, error)) from error
    print(
        f"MLflow at {shown(study.uri)}, experiment {study.name}: holds {num_runs} training runs and the stages"
        f" {', '.join(stages) or '(none)'}; {written} MLflow runs written now"
    )
    return written


class Study:
    """The study at `root` and its MLflow store, which is opened at the first use of `mlflow`."""

    def __init__(self, root: Path):
        self.root, self.name, self.uri = root, read_section("study", root / "params.yaml").name, tracking_uri(root)
        self.store = RunStore(root, storage_uri())

    @cached_property
    def planned(self) -> dict[str, dict]:
        """run_id -> planned columns, empty without a plan."""
        return planned_facts(self.root)

    @cached_property
    def mlflow(self) -> MlflowStore:
        """The store, opened."""
        commit, changed = read_commit(self.root)
        tags = {"git_commit": commit, "mlflow.source.git.commit": commit} if commit else {}
        tags |= {"git_changed": ", ".join(changed)[:5000]} if changed else {}
        return MlflowStore(self.uri, self.root, self.name, tags)

    @cached_property
    def parent(self) -> str | None:
        """MLflow's id of the run of stage train for today's plan, which every run mirrored now hangs under."""
        return self.mlflow.begin("train", train_identity(self.root)) if self.planned else None

    def mirror_run(self, run_id: str) -> bool:
        """True when the training run had to be written."""
        return self.mlflow.write(run_record(self.store, run_id, self.planned.get(run_id)), self.parent)

    def on_disk(self, run_ids: Iterable[str]) -> dict[str, str]:
        """run_id -> DVC hash of those of the runs that are settled, planned today or not, sorted."""
        return {run_id: run_hash(self.store, run_id) for run_id in sorted(run_ids) if self.store.settled(run_id)}

    def held(self, on_disk: dict[str, str]) -> dict[str, str]:
        """What MLflow holds, by run_id: the runs `on_disk` where these are what was mirrored last; else it is searched,
        which takes two milliseconds a run."""
        return dict(on_disk) if self.mlflow.mark == digest(on_disk) else self.mlflow.training_runs()

    def mirror_runs(self, on_disk: dict[str, str], held: dict[str, str]) -> tuple[int, int]:
        """(number of training runs written, number that MLflow holds of all that are published or `on_disk`); it has
        those `held` already, a hash by run_id."""
        published = published_records(self.root)
        written = sum(self.mirror_run(run_id) for run_id, ours in on_disk.items() if held.get(run_id) != ours)
        for run_id in sorted(published.keys() - held.keys() - on_disk.keys()):
            written += self.mlflow.write(published[run_id]())
        self.mlflow.set_mark(digest(on_disk))
        return written, len(published.keys() | on_disk.keys())


@contextmanager
def _going_on(uri: str) -> Iterator[bool]:
    """False once the store failed in this process; the first failure is told in one line, and that is all."""
    try:
        yield uri not in _given_up
    except StoreFault as error:
        _given_up.add(uri)
        later = "the study goes on, and `make track` mirrors everything later"
        print(f"warning: {_told(uri, error)}; {later}", file=sys.stderr)


def _told(uri: str, error: StoreFault) -> str:
    return f"MLflow at {shown(uri)}: {str(error).replace(uri, shown(uri))}"
