"""What a further token count costs beside its training, and a study without news: python -m benchmarks.increment.

Works in a temporary copy of this study, whose finished runs are reused. A token count is added to the grid, and of the
wall time of `make study` the training of the new runs is taken off: their own seconds laid out over the workers without
a pause, parents first, the longest chain first. What is left is everything else, from DVC to the report. An unchanged
`make study` is timed against `dvc status`. The default count lies between two of the grid, so that its runs are short;
`--tokens 3840000` adds the next one for real (about eight minutes); `--small` runs a study of seconds from nothing.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import polars as pl
from ruamel.yaml import YAML

from benchmarks import ONE_THREAD
from benchmarks.stopwatch import rounded
from pipeline.execution.placement import num_workers
from pipeline.params import read_params
from pipeline.planning.bill import critical_path
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import read_plan

ROOT = Path(__file__).resolve().parents[1]
MADE = (
    "runs",
    "telemetry",
    "plan",
    "data",
    "results",
    "reports",
    "scratch/drawn",
    ".dvc/cache",
    "mlflow.db",
    "mlartifacts",
)
"""What a study leaves beside its source."""
SMALL = {"widths": [32, 48], "tokens": [120_000, 240_000]}
COMPILE = "from pipeline.training.compiled import compile_apart; compile_apart({})"
ADDED_TOKENS = 180_000
NUM_ROUNDS = 5


def measure_increment(tokens: int = ADDED_TOKENS, small: bool = False) -> dict:
    """`increment_overhead_seconds`, `noop_over_dvc_status` (seconds), and the parts that they are made of.

    Raises ValueError when the grid has these tokens already, and CalledProcessError when a command fails.
    """
    with tempfile.TemporaryDirectory(prefix="increment-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        _copy_study(root, small)
        # Whatever is out of date here is no part of the increment, nor is the step that a study which has trained has
        # compiled: machine code knows the folder of its source, so that a copy has to compile it anew.
        _told(root, "make", "--old-file", ".venv/ready", "study")
        _told(root, "python", "-c", COMPILE.format(read_params(root / "params.yaml").language_model.model.head_size))
        status, nothing = _alternate(root)
        before = {path.stem for path in (root / "telemetry").glob("*.json")}
        _add_tokens(root, tokens)
        wall, stages = _timed_stages(root)
        specs = read_plan(root / "plan/runs.parquet")[1]
        new = [spec for spec in specs if spec.run_id not in before]
        seconds = {spec.run_id: _seconds(root, spec) for spec in new}
        planned, finished = len(specs), pl.read_parquet(root / "results/runs.parquet")["status"].eq("finished").sum()
    training = makespan(new, seconds, num_workers())
    return {
        "increment_overhead_seconds": wall - training,
        "noop_over_dvc_status": median(nothing) - median(status),
        "parts": {
            "added_tokens": tokens,
            "num_runs_planned": planned,
            "num_runs_new": len(new),
            "num_language_model_runs_finished": int(finished),
            "num_workers": num_workers(),
            "wall_seconds": wall,
            "training_seconds": training,
            "run_seconds": sum(seconds.values()),
            "stage_seconds": stages,
            "dvc_status_seconds": status,
            "noop_seconds": nothing,
        },
    }


def makespan(specs: list[RunSpec], seconds: dict[str, float], num_slots: int) -> float:
    """Seconds that these runs take on so many workers without a pause, parents first and the longest chain first."""
    longest = critical_path(specs, seconds)
    known = {spec.run_id for spec in specs}
    children: dict[str, list[str]] = {}
    for spec in specs:
        children.setdefault(spec.needs if spec.needs in known else "", []).append(spec.run_id)
    ready = [(-longest[run_id], run_id) for run_id in children.get("", [])]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < num_slots:
            _, run_id = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[run_id], run_id))
        now, ended = heapq.heappop(running)
        for run_id in children.get(ended, []):
            heapq.heappush(ready, (-longest[run_id], run_id))
    return now


def _copy_study(root: Path, small: bool) -> None:
    """The files of this repository as they stand, in a git clone, with what the study made unless it starts anew."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
        else:
            (root / name).unlink(missing_ok=True)
    (root / ".venv").symlink_to(ROOT / ".venv")
    if small:
        for name in ("dvc.lock", "results", "reports"):
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
        shrink(root)
        return
    for name in MADE:
        source, target = ROOT / name, root / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, symlinks=True)
        elif source.exists():
            shutil.copy2(source, target)


def shrink(root: Path) -> None:
    """Makes the study in `root` one of four points without laws."""
    _change(root, lambda tree: (tree.update(laws={}), tree["language_model"]["grid"].update(SMALL)))
    _change(root, lambda tree: tree["language_model"]["replicates"].update(widths=SMALL["widths"][:1]))


def _add_tokens(root: Path, tokens: int) -> None:
    def add(tree: dict) -> None:
        grid = tree["language_model"]["grid"]["tokens"]
        if tokens in grid:
            raise ValueError(f"params.yaml: language_model.grid.tokens: {tokens} is there already")
        grid.append(tokens)
        grid.sort()

    _change(root, add)


def _change(root: Path, change) -> None:
    path, yaml = root / "params.yaml", YAML()
    tree = yaml.load(path)
    change(tree)
    yaml.dump(tree, path)


def _alternate(root: Path) -> tuple[list[float], list[float]]:
    """Seconds of `dvc status` and of an unchanged `make study`, in turn."""
    status, nothing = [], []
    for _ in range(NUM_ROUNDS):
        for command, seconds in (
            (("dvc", "status"), status),
            (("make", "--old-file", ".venv/ready", "study"), nothing),
        ):
            began = time.perf_counter()
            _told(root, *command)
            seconds.append(time.perf_counter() - began)
    return status, nothing


def _timed_stages(root: Path) -> tuple[float, dict[str, float]]:
    """Wall seconds of `make study`, and from each "Running stage" of DVC to the next; "dvc" is what came before."""
    began = time.perf_counter()
    marks = [("dvc", began)]
    with subprocess.Popen(
        ["make", "--old-file", ".venv/ready", "study"],
        cwd=root,
        env=_environment(root),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout:
            print(f"  {line}", end="", flush=True)
            if line.startswith("Running stage "):
                marks.append((line.split("'")[1], time.perf_counter()))
    ended = time.perf_counter()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    ends = [moment for _, moment in marks[1:]] + [ended]
    return ended - began, {name: end - start for (name, start), end in zip(marks, ends, strict=True)}


def _told(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, env=_environment(root), text=True, capture_output=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()


def _environment(root: Path) -> dict[str, str]:
    outside = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MAKEFLAGS", "MAKELEVEL", *ONE_THREAD)
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}


def _seconds(root: Path, spec: RunSpec) -> float:
    return json.loads((root / "telemetry" / f"{spec.run_id}.json").read_text())["seconds"]


def main() -> int:
    """Prints the measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.increment", description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=ADDED_TOKENS, help=f"the count to add, default {ADDED_TOKENS:,}")
    parser.add_argument("--small", action="store_true", help="a grid of four points without laws, from nothing")
    options = parser.parse_args()
    print(json.dumps(rounded(measure_increment(options.tokens, options.small)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
