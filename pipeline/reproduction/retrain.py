"""Retrains published runs in a temporary place, with the runs they start from, and compares."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import uuid4

import fsspec
import polars as pl

from pipeline.corpus.prepare import prepare_corpus
from pipeline.driver import train_runs
from pipeline.execution.digests import DIGESTS
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.params import Params
from pipeline.plain import flatten
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import PLANNED, plan_table
from pipeline.reproduction.compare import Outcome, outcome, worst
from pipeline.reproduction.noise import LawNoise, StudyNoise, replaced
from pipeline.reproduction.published import Tables, published_tables, recorded_tables
from pipeline.study import plan_runs

ALWAYS_FIXED = ("run_id", "kind", "seed", "status")
UNPLANNED = "params.yaml, this corpus and this code do not plan it: it was made by others"


@dataclass(frozen=True)
class Study:
    """A published study and what its parameters, corpus and code plan today; `tokens` is the prepared corpus."""

    root: Path
    params: Params
    tokens: Path
    published: dict[str, Tables]
    plan: pl.DataFrame
    specs: dict[str, RunSpec]

    def sample(self, number: int, draw: Random) -> list[str]:
        """`number` runs of every experiment, or all it has; of the scaling study, such as have a loss."""
        found = []
        for tables in self.published.values():
            ids = [run_id for run_id in tables.settled() if tables.row(run_id).get("kind") != "trunk"]
            found += draw.sample(ids, min(number, len(ids)))
        return found

    @property
    def settled(self) -> list[str]:
        """Every published run that ended with a result."""
        return [run_id for tables in self.published.values() for run_id in tables.settled()]

    def with_ancestors(self, run_ids: list[str]) -> list[RunSpec]:
        """The specs of planned runs among `run_ids`, and of all that they start from."""
        found: dict[str, RunSpec] = {}
        for run_id in run_ids:
            while run_id in self.specs and run_id not in found:
                found[run_id] = self.specs[run_id]
                run_id = found[run_id].needs
        return list(found.values())


@contextmanager
def open_study(root: Path, params: Params) -> Iterator[tuple[Study, Path]]:
    """(the published study in `root`, an empty folder for the length of the block).

    The corpus is prepared anew in that folder where data/tokens is not there.
    """
    with tempfile.TemporaryDirectory(prefix="study-verify-") as name:
        place, tokens = Path(name), root / "data/tokens"
        published = published_tables(root)
        if not tokens.exists():
            tokens = place / "tokens"
            prepare_corpus(params.prepare, tokens, lambda step, done, total: None)
        specs, described = plan_runs(params, tokens)
        plan = plan_table(specs, described).drop("spec")
        yield Study(root, params, tokens, published, plan, {spec.run_id: spec for spec in specs}), place


def reproduce(study: Study, run_ids: list[str], place: Path, storage: str | None) -> list[Outcome]:
    """Retrains `run_ids` and what they start from in `place`; one outcome for each of all these."""
    specs = study.with_ancestors(run_ids)
    with _own_storage(storage) as uri:
        store = RunStore(place, uri)
        failed = train_runs(specs, store, study.params.train, study.tokens, mirrored=False)
    ended = [spec for spec in specs if spec.run_id not in failed]
    retrained = recorded_tables(study.plan, ended, store, place / "retrained")
    found = [Outcome(run_id, "does not reproduce", UNPLANNED) for run_id in run_ids if run_id not in study.specs]
    found += [Outcome(run_id, "does not reproduce", why) for run_id, why in failed.items()]
    mine = RunStore(study.root)
    damaged = mine.all_damaged([spec.run_id for spec in ended])
    found += [Outcome(run_id, "does not reproduce", why) for run_id, why in damaged.items()]
    sound = [spec for spec in ended if spec.run_id not in damaged]
    held = [spec for spec in sound if mine.settled(spec.run_id)]
    records = recorded_tables(study.plan, held, mine, place / "records")
    for name in dict.fromkeys(spec.experiment for spec in sound):
        chosen = [spec for spec in sound if spec.experiment == name]
        against = [(study.published.get(name), _incomparable(name, study, chosen)), (records.get(name), ())]
        noise = replaced(study.published.get(name, retrained[name]), retrained[name])
        compared = [
            _compare(tables, retrained[name], noise, chosen, left_out) for tables, left_out in against if tables
        ]
        for spec in chosen:
            verdicts = [one[spec.run_id] for one in compared if spec.run_id in one]
            verdicts += [_bytes(spec, mine, store)] if spec in held else []
            found.append(worst(verdicts) if verdicts else _unpublished(spec, name))
    return found


def _compare(
    theirs: Tables, ours: Tables, noise: Tables, chosen: list[RunSpec], left_out: tuple[str, ...]
) -> dict[str, Outcome]:
    """The outcome of every run in `chosen` that `theirs` has; seeds are compared in `noise`."""
    known = set(theirs.runs["run_id"])
    study, found = StudyNoise(noise), {}
    settings = tuple(sorted({name for spec in chosen for name in flatten(spec.settings)}))
    laws = LawNoise(noise, settings)
    for spec in chosen:
        if spec.run_id not in known:
            continue
        is_study = spec.experiment == LANGUAGE_MODEL
        fixed = {*PLANNED, *ALWAYS_FIXED} if is_study else {*settings, *ALWAYS_FIXED}
        spreads = study.of if is_study else laws.of(spec.run_id)
        found[spec.run_id] = outcome(spec.run_id, theirs, ours, fixed, spreads, len(chosen), left_out)
    return found


def _incomparable(name: str, study: Study, chosen: list[RunSpec]) -> tuple[str, ...]:
    """Columns of results/runs.parquet that depend on which other runs there are, unless all are retrained."""
    whole = (
        set(study.published[name].settled()) <= {spec.run_id for spec in chosen} if name in study.published else True
    )
    return () if whole else ("loss_se_compared",)


def _bytes(spec: RunSpec, theirs: RunStore, ours: RunStore) -> Outcome:
    """Whether the record and the retrained one hold the same files: arrays and checkpoint too."""
    a, b = ((store.folder(spec.run_id) / DIGESTS).read_bytes() for store in (theirs, ours))
    if a == b:
        return Outcome(spec.run_id, "same bits")
    return Outcome(spec.run_id, "within seed noise", f"runs/{spec.run_id}: files of other bytes")


def _unpublished(spec: RunSpec, name: str) -> Outcome:
    return Outcome(spec.run_id, "does not reproduce", f"results/: {name}: the published tables have no such run")


@contextmanager
def _own_storage(uri: str | None) -> Iterator[str | None]:
    """A folder below the study's storage for the length of the block, where there is one."""
    if uri is None:
        yield None
        return
    own = f"{uri}/verify-{uuid4().hex[:12]}"
    try:
        yield own
    finally:
        filesystem, path = fsspec.core.url_to_fs(own)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
