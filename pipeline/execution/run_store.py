"""Finished runs on disk, one folder a run, each of which appears whole or not at all and proves what it holds.

runs/<run_id>/     spec.json, result.json, curve.parquet, arrays.safetensors, checkpoint.safetensors, digests.json
telemetry/         <run_id>.json: seconds, host, versions; volatile, so kept apart from what later stages hash
scratch/<run_id>/  checkpoint.safetensors of a run in progress; goes away with the record
scratch/damaged/   records that did not hold what was written, kept for whoever wants to know why
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError
from safetensors.numpy import save_file

from pipeline.execution.digests import seal
from pipeline.execution.record import Record
from pipeline.experiments.experiment import RunResult
from pipeline.planning.run_spec import RUN_ID, SETTLED, RunSpec, check_run_id
from pipeline.planning.table import CURVES, schema
from pipeline.storage import Damaged

THREADS = 16
"""Threads that write or verify records; most of the time they wait for the disk."""


class Noted(BaseModel):
    """What the study counts with of a run's telemetry."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    seconds: NonNegativeFloat
    tokens: NonNegativeInt
    attempts: PositiveInt
    lost: NonNegativeInt = 0
    halved: NonNegativeInt = 0
    spikes: NonNegativeInt = 0
    finished_at: Annotated[datetime | None, Field(strict=False)] = None


@dataclass(frozen=True)
class RunStore:
    """The runs of a project at `root`. `storage` is a URI for checkpoints that every node reaches, None for `root`."""

    root: Path
    storage: str | None = None

    def status(self, run_id: str) -> str | None:
        """finished, diverged or failed for a record, "damaged" for one whose result does not hold what was written,
        "partial" for a run in progress, None for neither."""
        try:
            record = self.result(run_id)
        except Damaged:
            return "damaged"
        if record is not None:
            return record["status"]
        return "partial" if (self.scratch(run_id) / "checkpoint.safetensors").exists() else None

    def settled(self, run_id: str) -> bool:
        """True for a run that is never trained again: it finished, or it diverged."""
        return self.status(run_id) in SETTLED

    def folder(self, run_id: str) -> Path:
        """The folder of the record. ValueError when `run_id` is not one, so that no path leaves the store."""
        return Path(self._place(run_id))

    def scratch(self, run_id: str) -> Path:
        """The folder of a run in progress."""
        return self.root / "scratch" / check_run_id(run_id)

    def checkpoint(self, run_id: str) -> str:
        """URI of the final checkpoint of a finished run."""
        if self.storage:
            return f"{self.storage}/{check_run_id(run_id)}/checkpoint.safetensors"
        return str(self.folder(run_id) / "checkpoint.safetensors")

    def working_checkpoint(self, run_id: str) -> str:
        """URI where a run in progress saves its state."""
        return self.checkpoint(run_id) if self.storage else str(self.scratch(run_id) / "checkpoint.safetensors")

    def add_all(self, ended: Sequence[tuple[RunSpec, RunResult, dict]]) -> None:
        """Writes the records of runs, each given as for `add`, side by side: a disk flushes many files in hardly more
        time than one.

        Raises the first error there was, once the others are written.
        """
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            written = [pool.submit(self.add, *one) for one in ended]
        for one in written:
            one.result()

    def add(self, spec: RunSpec, result: RunResult, telemetry: dict) -> None:
        """Writes the record of a run: telemetry first, then everything else with one rename.

        OSError when the disk is full: no record appears and the checkpoint in progress stays for the next attempt.
        """
        record = {"status": result.status, "reason": result.reason, "done": result.done, "scalars": result.scalars}
        (self.root / "telemetry").mkdir(exist_ok=True)
        _write_json(self.root / "telemetry" / f"{spec.run_id}.json", {"run_id": spec.run_id} | telemetry)
        self._publish(spec, record, result)

    def add_failure(self, spec: RunSpec, traceback: str) -> None:
        """Writes the record of a run that ended with an exception, and is left alone from then on."""
        self._publish(spec, {"status": "failed", "reason": traceback, "done": 0, "scalars": {}}, None)

    def forget(self, run_id: str) -> None:
        """Takes the record of a run away, in one step, so that the next study trains it."""
        gone = self.root / "scratch" / f"{run_id}.forgotten"
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(self.folder(run_id), gone)
        shutil.rmtree(gone)

    def recorded(self) -> set[str]:
        """The ids of all runs that have a record, whatever it holds."""
        folder = self.root / "runs"
        entries = os.scandir(folder) if folder.is_dir() else ()
        return {entry.name for entry in entries if RUN_ID.fullmatch(entry.name) and entry.is_dir()}

    def record(self, run_id: str) -> Record | None:
        """The record of a run, None where there is none. Raises Damaged as all that reads it does."""
        place = self._place(run_id)
        try:
            return Record(run_id, place)
        except Damaged:  # asked last, since nearly all that is asked for is there
            if os.path.isdir(place):
                raise
            return None

    def tidy(self) -> None:
        """Removes from scratch/ what is left there of settled runs, by a driver that died between writing the record
        and that."""
        for run_id in self.recorded() & set(os.listdir(self.root / "scratch")):
            if self.settled(run_id):
                shutil.rmtree(self.scratch(run_id), ignore_errors=True)

    def result(self, run_id: str) -> dict | None:
        """result.json of a run, None where there is no record."""
        record = self.record(run_id)
        return record and record.result()

    def spec(self, run_id: str) -> RunSpec:
        """The spec of a run, which has a record."""
        return Record(run_id, self._place(run_id)).spec()

    def curve(self, run_id: str) -> pl.DataFrame:
        """The training curve of a run, which has a record."""
        return Record(run_id, self._place(run_id)).curve()

    def arrays(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays that the result of a run, which has a record, holds."""
        return Record(run_id, self._place(run_id)).arrays()

    def damaged(self, run_id: str) -> str | None:
        """What is wrong with the record of a run, in one line; None for a sound one, or where there is none.

        Every file is verified, the checkpoint on this disk too, and that the record is the one of this very run.
        """
        try:
            record = self.record(run_id)
            if record is not None:
                record.check()
        except Damaged as error:
            return str(error)
        return None

    def all_damaged(self, run_ids: Sequence[str]) -> dict[str, str]:
        """run_id -> what is wrong, as by `damaged`, of every record that is not sound."""
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            return {run_id: why for run_id, why in zip(run_ids, pool.map(self.damaged, run_ids), strict=True) if why}

    def set_aside(self, run_id: str) -> Path:
        """Where the record of a run lies now, out of the way of the next one."""
        place = self.root / "scratch" / "damaged"
        place.mkdir(parents=True, exist_ok=True)
        target = next(path for n in count() if not (path := place / f"{check_run_id(run_id)}-{n}").exists())
        os.rename(self.folder(run_id), target)
        return target

    def telemetry(self, run_id: str) -> dict | None:
        """How long a run took, and where; None where it is not known. ValueError naming the file, and the field, where
        it is not what was noted."""
        path = self.root / "telemetry" / f"{run_id}.json"
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error}); delete it, no result depends on it") from None
        try:
            Noted.model_validate(facts)
        except ValidationError as error:
            fault = error.errors()[0]
            place = "".join(f"{part}: " for part in fault["loc"])
            raise ValueError(f"{path}: {place}{fault['msg']}; delete it, no result depends on it") from None
        return facts

    def _place(self, run_id: str) -> str:
        return f"{self.root}/runs/{check_run_id(run_id)}"

    def _publish(self, spec: RunSpec, record: dict, result: RunResult | None) -> None:
        building = self.root / "scratch" / f"{spec.run_id}.record"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        (building / "spec.json").write_text(spec.to_json() + "\n")
        _write_json(building / "result.json", record)
        if result is not None:
            curve = pl.DataFrame(result.curve).select(pl.lit(spec.run_id).alias("run_id"), pl.all())
            kinds = {name: kind for name, kind in schema(CURVES).items() if name in curve.columns}
            curve.cast(kinds).write_parquet(building / "curve.parquet")
            save_file(result.arrays, building / "arrays.safetensors")
            working = self.scratch(spec.run_id) / "checkpoint.safetensors"
            if result.status == "finished" and result.keeps_checkpoint and not self.storage:
                os.link(working, building / "checkpoint.safetensors")
        seal(building)
        for path in building.iterdir():
            _flush(path)
        target = self.folder(spec.run_id)
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        os.rename(building, target)
        _flush(target.parent)
        if result is not None:
            shutil.rmtree(self.scratch(spec.run_id), ignore_errors=True)


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
