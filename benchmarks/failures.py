"""10,000 runs of which one in a hundred fails in each way there is: python -m benchmarks.failures [--runs N].

They go through the real executor, Ray cluster and run store. Every run must end as its way of failing says (see
benchmarks/faulty.py), with as many attempts, and the driver's memory must not grow with the runs that are done. A full
disk is no part of it: it stops the stage, as tests/test_pipeline.py shows.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

import psutil

from benchmarks.orchestration import NUM_RUNS, in_a_copy, measured_or_here

ENDS = {"lost": "finished", "crash": "failed", "memory": "finished", "diverged": "diverged", "bug": "failed"}
RETRIES = 2
MOST_GROWTH_MIB = 64.0
"""How much more the driver may hold at the end than after a fifth of the runs."""


def carry_out(num_runs: int, root: Path) -> dict:
    """Figures of one pass in this process, whose store is `root`. Raises AssertionError for a run that is not accounted
    for."""
    from pipeline.execution.cluster import Cluster
    from pipeline.execution.executor import Executor, Policy
    from pipeline.execution.run_store import RunStore
    from pipeline.experiments.experiment import step
    from pipeline.experiments.laws.faulty import MICRO_BATCH, way_of
    from pipeline.results import collect_law

    specs = step("faulty", "plan")(num_runs)
    store, told, held = RunStore(root), Counter(), []
    for folder in ("runs", "telemetry"):
        (root / folder).mkdir()

    def note(event) -> None:
        told[event.kind] += 1
        if event.kind in ("finished", "diverged", "failed"):
            held.append(psutil.Process().memory_info().rss / 2**20)

    began = perf_counter()
    with Cluster() as cluster:
        policy = Policy(root, MICRO_BATCH, 60.0, retries=RETRIES)
        failed = Executor(specs, store, cluster, policy, (note,), dict.fromkeys((s.run_id for s in specs), 0.001)).run()
    seconds = perf_counter() - began
    by_way: dict[str, Counter] = {}
    for spec in specs:
        way, status = way_of(spec.settings["number"]), store.status(spec.run_id)
        by_way.setdefault(way, Counter())[status] += 1
        assert status == ENDS.get(way, "finished"), (way, spec.run_id, status)
        assert (spec.run_id in failed) == (status == "failed"), (way, spec.run_id)
        facts = store.telemetry(spec.run_id)
        if way in ("lost", "memory"):
            assert (facts["lost"], facts["halved"]) == ((1, 0) if way == "lost" else (0, 1)), (way, facts)
        if way == "crash":
            assert f"(after {RETRIES + 1} attempts)" in store.result(spec.run_id)["reason"]
    runs, _ = collect_law(specs, store)
    assert runs.height == num_runs
    assert len(list((root / "runs").iterdir())) == num_runs
    early = held[len(held) // 5]
    return {
        "num_runs": num_runs,
        "seconds": seconds,
        "ends": {way: dict(ends) for way, ends in sorted(by_way.items())},
        "told": dict(told),
        "driver_mib_after_a_fifth": early,
        "driver_mib_at_the_end": held[-1],
    }


def measure_failures(num_runs: int = NUM_RUNS) -> dict:
    """The figures of `carry_out`, in a copy of the project that has the law of benchmarks/faulty.py."""
    return in_a_copy("faulty", "benchmarks.failures", num_runs)


def main() -> int:
    """Exit code: 0, or 1 when the driver's memory grew."""
    measured = measured_or_here("benchmarks.failures", __doc__.splitlines()[0], measure_failures, carry_out)
    if measured is None:
        return 0
    print(json.dumps(measured, indent=2))
    return 0 if measured["driver_mib_at_the_end"] - measured["driver_mib_after_a_fifth"] < MOST_GROWTH_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
