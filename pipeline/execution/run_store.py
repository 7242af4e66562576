"""Finished runs on disk, one folder a run, each of which appears whole or not at all.

runs/<run_id>/     spec.json, result.json, curve.parquet, arrays.safetensors, checkpoint.safetensors
telemetry/         <run_id>.json: seconds, host, versions; volatile, so kept apart from what later stages hash
scratch/<run_id>/  checkpoint.safetensors of a run in progress; goes away with the record
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from pipeline.experiments.experiment import RunResult
from pipeline.planning.run_spec import SETTLED, RunSpec
from pipeline.planning.table import CURVES, schema

WRITERS = 16
"""Threads that write records; most of the time they wait for the disk."""


@dataclass(frozen=True)
class RunStore:
    """The runs of a project at `root`. `storage` is a URI for checkpoints that every node reaches, None for `root`."""

    root: Path
    storage: str | None = None

    def status(self, run_id: str) -> str | None:
        """finished, diverged or failed for a record, "partial" for a run in progress, None for neither."""
        path = self.folder(run_id) / "result.json"
        if path.exists():
            return _read_json(path)["status"]
        return "partial" if (self.scratch(run_id) / "checkpoint.safetensors").exists() else None

    def settled(self, run_id: str) -> bool:
        """True for a run that is never trained again: it finished, or it diverged."""
        return self.status(run_id) in SETTLED

    def folder(self, run_id: str) -> Path:
        """The folder of the record."""
        return self.root / "runs" / run_id

    def scratch(self, run_id: str) -> Path:
        """The folder of a run in progress."""
        return self.root / "scratch" / run_id

    def checkpoint(self, run_id: str) -> str:
        """URI of the final checkpoint of a finished run."""
        if self.storage:
            return f"{self.storage.rstrip('/')}/{run_id}/checkpoint.safetensors"
        return str(self.folder(run_id) / "checkpoint.safetensors")

    def working_checkpoint(self, run_id: str) -> str:
        """URI where a run in progress saves its state."""
        return self.checkpoint(run_id) if self.storage else str(self.scratch(run_id) / "checkpoint.safetensors")

    def add_all(self, ended: Sequence[tuple[RunSpec, RunResult, dict]]) -> None:
        """Writes the records of runs, each given as for `add`, side by side: a disk flushes many files in hardly more
        time than one.

        Raises the first error there was, once the others are written.
        """
        with ThreadPoolExecutor(max_workers=WRITERS) as pool:
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

    def result(self, run_id: str) -> dict | None:
        """result.json of a run, None where there is no record."""
        path = self.folder(run_id) / "result.json"
        return _read_json(path) if path.exists() else None

    def curve(self, run_id: str) -> pl.DataFrame:
        """The training curve of a run, from initialisation on; its first column after run_id counts steps or tokens."""
        return pl.read_parquet(self.folder(run_id) / "curve.parquet")

    def arrays(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays that a run's result holds."""
        return load_file(self.folder(run_id) / "arrays.safetensors")

    def telemetry(self, run_id: str) -> dict | None:
        """How long a run took, and where; None where it is not known."""
        path = self.root / "telemetry" / f"{run_id}.json"
        return _read_json(path) if path.exists() else None

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


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete its folder to train the run again") from None


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
