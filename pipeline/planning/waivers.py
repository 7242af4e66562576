"""Runs that a study goes on without, by decision: waivers.json, which git keeps, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.planning.bill import parents_first
from pipeline.planning.run_spec import RunSpec
from pipeline.storage import write

FILE = "waivers.json"


def read_waivers(root: Path) -> dict[str, str]:
    """run_id -> the reason why the study in `root` goes on without this run, empty where nothing is waived.

    Raises ValueError when the file is not a JSON object of run ids and reasons.
    """
    path = root / FILE
    try:
        waivers = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(waivers, dict):
        raise ValueError(f"{path}: {waivers!r} is not an object of run ids and reasons")
    for run_id, reason in waivers.items():
        if not (isinstance(reason, str) and reason.strip()):
            raise ValueError(f"{path}: {run_id}: {reason!r} is not a reason")
    return waivers


def write_waivers(root: Path, waivers: Mapping[str, str]) -> None:
    """Writes waivers.json in one step, sorted, so that a change is one line for git."""
    write(str(root / FILE), (json.dumps(waivers, sort_keys=True, indent=1) + "\n").encode())


def waived_runs(specs: list[RunSpec], waivers: Mapping[str, str]) -> dict[str, str]:
    """run_id -> reason of the runs of a plan that are waived, those that start from a waived one included."""
    return with_descendants(specs, waivers, "is waived")


def idle_waivers(specs: list[RunSpec], waivers: Mapping[str, str]) -> list[str]:
    """A line for every waiver without a run in the whole plan `specs`: mistyped, or of a run that has left the plan."""
    known = {run_id for spec in specs for run_id in (spec.run_id, spec.needs)}
    return [f"{FILE}: {run_id}: no planned run has this id" for run_id in sorted(waivers) if run_id not in known]


def with_descendants(specs: list[RunSpec], reasons: Mapping[str, str], what: str) -> dict[str, str]:
    """The `reasons` of runs in a plan, and of every run below them one that names its parent and `what` this is."""
    found: dict[str, str] = {}
    for spec in parents_first(specs):
        if spec.run_id in reasons:
            found[spec.run_id] = reasons[spec.run_id]
        elif spec.needs in found or spec.needs in reasons:
            found[spec.run_id] = f"its parent {spec.needs} {what}"
    return found
