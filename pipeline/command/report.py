"""A report on the runs that have ended so far, beside the study: study report --partial."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path

import polars as pl

from pipeline.command.words import STATES

FOLDER = Path("scratch/partial")
SHARED = ("plan", "telemetry", "data", "benchmarks", "publications", "params.yaml")
"""What a partial report reads where it lies in the project."""
REASONS = STATES | {"damaged": "its record is damaged"}
MOST_NAMED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `study report`."""
    parser.add_argument(
        "--partial",
        action="store_true",
        required=True,
        help=f"of the runs that have ended so far, into {FOLDER}/reports (the whole report is made by make study)",
    )


def command(arguments: argparse.Namespace) -> None:
    """Report on the runs that have ended so far.

    Nothing of the study itself is touched, which may be training meanwhile. Laws of learning mechanics are judged only
    when all their runs have ended. Raises ValueError where nothing is planned.
    """
    from pipeline.execution.run_store import RunStore
    from pipeline.experiments.experiment import reads
    from pipeline.external.collect import collect_external
    from pipeline.external.judge import judge_external
    from pipeline.params import read_params
    from pipeline.planning.run_spec import SETTLED
    from pipeline.planning.table import read_plan
    from pipeline.reporting.study_report import write_report
    from pipeline.results import MISSING, collect_study, judge_study, waived

    params, store = read_params(), RunStore(Path.cwd())
    if not Path("plan/runs.parquet").exists():
        raise ValueError("plan/runs.parquet: no such file; plan a study first (make study, or dvc repro plan)")
    plan, specs = read_plan(Path("plan/runs.parquet"))
    left_out = waived(specs, store.root)
    states = {spec.run_id: store.status(spec.run_id) for spec in specs if spec.run_id not in left_out}
    missing = {run_id: REASONS[state] for run_id, state in states.items() if state not in (*SETTLED, "failed")}
    left_out |= {run_id: (MISSING, why) for run_id, why in missing.items()}
    unfinished = {spec.experiment for spec in specs if spec.run_id in missing}
    whole = [name for name in params.laws.tested if reads(name) not in unfinished]
    results = _fresh_folder(store.root)
    runs = collect_study(plan, [spec for spec in specs if spec.experiment in whole], store, results, left_out)
    judge_study(params, results, whole)
    collect_external(params.collect.external, results)
    judge_external(params.collect.external, params.fit, results)
    remarks = _remarks(runs, missing, [name for name in params.laws.tested if name not in whole])
    remarks += _intervals(runs, results, params.fit.convention) if missing else []
    print(*remarks, write_report(params, FOLDER, store.root, remarks), sep="\n")


def _fresh_folder(root: Path) -> Path:
    """An empty results/ in FOLDER, beside links to what is shared with the study in `root`."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "results").mkdir(parents=True)
    for name in SHARED:
        if (root / name).exists():
            (FOLDER / name).symlink_to(root / name)
    return FOLDER / "results"


def _remarks(runs: pl.DataFrame, missing: dict[str, str], unjudged: list[str]) -> list[str]:
    absent = runs.filter(pl.col("run_id").is_in(list(missing))).sort("C", descending=True)
    said = [f"This report is partial: {len(runs) - len(absent)} of {len(runs)} planned runs have ended."]
    if len(absent):
        counts = Counter(missing[run_id] for run_id in absent["run_id"])
        largest = [
            f"width {width} {kind} to {D:,} tokens"
            for width, kind, D in absent.select("width", "kind", "D").head(MOST_NAMED).iter_rows()
        ]
        said[0] += f" The others: {', '.join(f'{count} {what}' for what, count in sorted(counts.items()))}."
        said.append(f"The largest that are missing: {'; '.join(largest)}. All are listed under excluded runs.")
    if unjudged:
        said.append(f"Not judged, since runs are missing: {', '.join(unjudged)}.")
    return said


def _intervals(runs: pl.DataFrame, results: Path, convention: str) -> list[str]:
    """What the missing runs would do to the interval of a forecast, by the law and noise of those that are there."""
    from pipeline.command.predict import read_study
    from pipeline.command.worth import expected

    points = runs.filter(pl.col("kind") != "trunk")
    try:
        predictor = read_study(results).predictor
    except ValueError:
        return ["The runs so far give no law that predicts, so what the missing ones would add is not known."]
    ended = points.filter(pl.col("loss").is_not_null())
    C, (now, then) = expected(predictor, [ended, points], convention)
    largest = points["C"].max() / ended["C"].max()
    reach = f" The largest point so far is {largest:.3g} times below the largest planned." if largest > 1 else ""
    known = f"to ±{100 * now.target_half_width:.2g} %" if now.identified else "to nothing"
    planned = f"±{100 * then.target_half_width:.2g} %" if then.identified else "nothing"
    return [
        f"By the {predictor.law.name} law and the noise so far, these runs give the loss at {C:.3g} FLOPs {known} "
        f"(95 %); with the missing ones {planned} is expected.{reach}"
    ]
