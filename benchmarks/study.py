"""The default study against the sequential baseline: python -m benchmarks.study. About seven minutes on two cores.

A copy of the project in a temporary folder, with `laws: {}`, no runs and this project's corpus, plans and is timed as
it trains: the real `python -m stages.train`, with Ray, records and checkpoints, from the start of the process to its
end. Rounds of the baseline's sample (sequential_time.py) lie before and after, in this process,
which is idle meanwhile. `study_over_sequential` is the median of the rounds' totals over the time of the stage.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import polars as pl

from benchmarks.sequential_time import NUM_ROUNDS, Sample
from benchmarks.stopwatch import free_environment, rounded, spread
from pipeline.params import read_params

ENVIRONMENT = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_WORKERS")
"""What a user's environment may hold that would change where the copy runs."""
LAWS = re.compile(r"^laws:.*?(?=^\S)", re.MULTILINE | re.DOTALL)


def measure_study(root: Path = Path(), before: int = 3, after: int = 3) -> dict:
    """`study_over_sequential`, seconds of both, and the study's tokens and FLOPs, by its tree and from scratch.

    At least five rounds in all. Raises CalledProcessError with the output above it when a stage fails.
    """
    if before + after < NUM_ROUNDS:
        raise ValueError(f"benchmarks.study: rounds: {before} + {after} are fewer than {NUM_ROUNDS}")
    sample = Sample(read_params(root / "params.yaml").language_model, root / "data/tokens")
    for _ in range(before):
        sample.run_round()
    with project_copy(root) as folder:
        plan_seconds = run_timed(folder, "stages.plan")
        train_seconds = run_timed(folder, "stages.train")
        planned = pl.read_parquet(folder / "plan/runs.parquet")
        records = [json.loads(path.read_text()) for path in (folder / "runs").glob("*/result.json")]
        telemetry = [json.loads(path.read_text()) for path in (folder / "telemetry").glob("*.json")]
    unfinished = [record["reason"] for record in records if record["status"] != "finished"]
    if unfinished or len(records) != planned.height:
        raise RuntimeError(f"{len(records)} of {planned.height} runs have a record; unfinished: {unfinished}")
    for _ in range(after):
        sample.run_round()
    baseline = sample.record()
    return {
        "study_over_sequential": median(baseline["seconds"]) / train_seconds,
        "ratios": spread(seconds / train_seconds for seconds in baseline["seconds"]),
        "train_seconds": train_seconds,
        "plan_seconds": plan_seconds,
        "run_seconds": sum(one["seconds"] for one in telemetry),
        "num_runs": planned.height,
        "flops": planned["flops_own"].sum(),
        "flops_from_scratch": planned.filter(pl.col("kind") != "trunk")["C"].sum(),
        "baseline": baseline,
    }


@contextmanager
def project_copy(root: Path) -> Iterator[Path]:
    """A temporary copy of the project's files as they are now, a git repository of its own, without laws and runs."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    with tempfile.TemporaryDirectory(prefix="study-") as name:
        folder = Path(name)
        for source in names:
            if not source.startswith(("results/", "reports/", "dvc.lock")) and (root / source).is_file():
                (folder / source).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / source, folder / source)
        text = (folder / "params.yaml").read_text(encoding="utf-8")
        (folder / "params.yaml").write_text(LAWS.sub("laws: {}\n\n", text), encoding="utf-8")
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data/tokens").symlink_to((root / "data/tokens").resolve())
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "A copy to be timed"]):
            who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
            subprocess.run(["git", *who, *command], cwd=folder, check=True)
        yield folder


def run_timed(folder: Path, module: str) -> float:
    """Wall seconds of `python -m module` in the project in `folder`, from the start of the process to its end."""
    clean = {name: value for name, value in free_environment().items() if name not in ENVIRONMENT}
    clean["PYTHONPATH"] = str(folder)
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    began = perf_counter()
    subprocess.run([sys.executable, "-m", module], cwd=folder, env=clean, check=True)
    return perf_counter() - began


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__.splitlines()[0])
    parser.parse_args()
    print(json.dumps(rounded(measure_study()), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
