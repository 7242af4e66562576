"""What it costs to carry out a plan, runs aside: python -m benchmarks.orchestration [--runs N].

N runs that do nothing go through the real plan table, bill, Ray cluster, executor, run store and display. Seconds are
wall time of the whole pass, from the bill to the last record, start and end of Ray included. MLflow's mirror is left
out: it follows in a thread of its own and costs what MLflow costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
NUM_RUNS = 10_000
LEAST_RUNS_PER_SECOND = 100.0
MOST_MIB = 1024.0


def measure_orchestration(num_runs: int = NUM_RUNS) -> dict[str, float]:
    """orchestration_runs_per_second and orchestration_driver_mib (most memory that the driver held, MiB), seconds of
    the pass, num_runs, and the parts of the pass in seconds.

    The pass is a process of its own, in a copy of the project that has the law of benchmarks/trivial.py.
    """
    return in_a_copy("trivial", "benchmarks.orchestration", num_runs)


def in_a_copy(law: str, module: str, num_runs: int) -> dict:
    """The JSON that `module` prints last with --here --runs N, in a copy of the project on the same disk that has the
    law of benchmarks/<law>.py.

    Raises RuntimeError with what it printed when it fails.
    """
    (ROOT / "scratch").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix=f"{law}-", dir=ROOT / "scratch") as place:
        project = Path(place)
        for package in ("pipeline", "benchmarks"):
            shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__", "results"))
        shutil.copy(ROOT / "benchmarks" / f"{law}.py", project / "pipeline" / "experiments" / "laws" / f"{law}.py")
        command = [sys.executable, "-m", module, "--here", "--runs", str(num_runs)]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {"PYTHONPATH": str(project)}
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def carry_out(num_runs: int, root: Path) -> dict[str, float]:
    """The same figures for one pass in this process, whose store is `root`."""
    from pipeline.execution.cluster import Cluster
    from pipeline.execution.executor import Executor, Policy
    from pipeline.execution.placement import num_workers
    from pipeline.execution.progress import Display
    from pipeline.execution.run_store import RunStore
    from pipeline.execution.throughput import Throughput
    from pipeline.experiments.experiment import step
    from pipeline.planning.bill import draw_bill
    from pipeline.planning.table import plan_table, read_plan
    from pipeline.results import collect_law

    times = [perf_counter()]
    plan_table(specs := step("trivial", "plan")(num_runs), [{}] * num_runs).write_parquet(root / "plan.parquet")
    _, specs = read_plan(root / "plan.parquet")
    times.append(perf_counter())
    store, told = RunStore(root), Counter()
    throughput = Throughput(specs, store)
    bill = draw_bill(specs, store.status, throughput.seconds, num_workers(), throughput.basis)
    for folder in ("runs", "telemetry"):
        (root / folder).mkdir()
    policy = Policy(root, 8192, 60.0, retries=2)
    with Cluster() as cluster, Display(bill) as display:
        watchers = (display, lambda event: told.update([event.kind]))
        began = perf_counter()
        failed = Executor(specs, store, cluster, policy, watchers, bill.seconds).run()
        carried = perf_counter() - began
    times.append(perf_counter())
    assert not failed
    assert told == {"started": num_runs, "finished": num_runs}
    runs, curves = collect_law(specs, store)
    times.append(perf_counter())
    assert runs["number"].sort().to_list() == list(range(num_runs))
    assert curves.height == 2 * num_runs
    planned, passed, collected = (after - before for before, after in pairwise(times))
    return {
        "orchestration_runs_per_second": num_runs / passed,
        "orchestration_driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "num_runs": num_runs,
        "seconds": passed,
        "executor_seconds": carried,
        "plan_seconds": planned,
        "collect_seconds": collected,
    }


def measured_or_here(
    module: str, about: str, measure: Callable[[int], dict], carry_out: Callable[[int, Path], dict]
) -> dict | None:
    """What `measure` finds for the runs that the command line asks for; None on the other side of `in_a_copy`, where
    `carry_out` is done here and printed as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--runs", type=int, default=NUM_RUNS, help=f"how many runs; default {NUM_RUNS:,}")
    parser.add_argument("--here", action="store_true", help="this folder is the copy: carry out the pass, print JSON")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(carry_out(arguments.runs, Path.cwd())))
        return None
    return measure(arguments.runs)


def main() -> int:
    """Exit code: 0, or 1 when a target is missed."""
    about = __doc__.splitlines()[0]
    measured = measured_or_here("benchmarks.orchestration", about, measure_orchestration, carry_out)
    if measured is None:
        return 0
    for name, value in measured.items():
        print(f"{name:<32}{value:12,.4g}")
    met = measured["orchestration_runs_per_second"] >= LEAST_RUNS_PER_SECOND
    return 0 if met and measured["orchestration_driver_mib"] < MOST_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
