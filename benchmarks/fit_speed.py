"""CPU time of our fits against two conventional ways to make the same fits: python -m benchmarks.fit_speed [--quick].

One process, one thread, interleaved rounds. A baseline does a part of its task in each round, which is scaled up; one
full run checks the scaling. Bootstrap fits of all get the same resamples, and one function judges all objectives, so
that speed is compared at known accuracy. The table is printed, and written to benchmarks/results/fit_speed.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import bfgs_autograd, slsqp_analytic
from benchmarks.chinchilla_runs import Runs, chinchilla_runs
from benchmarks.contender import TIE, Contender, gaps, objectives
from benchmarks.stopwatch import Seconds, measure, one_thread_facts, rounded, spread
from pipeline.fitting.estimators import Huber
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.solver import Fit, fit
from pipeline.fitting.uncertainty import Bootstrap, bootstrap, resample_weights

RESULTS = Path(__file__).parent / "results" / "fit_speed.json"
NUM_RESAMPLES = 4000
SEED = 0
NUM_ROUNDS = 5
NUM_POINT_FITS = 10
"""Calls of our point fit in a round, whose mean counts."""
PUBLISHED_OBJECTIVE = 0.0010182740178006
"""The least Huber 1e-3 objective known on the published runs."""
CLOSE_SHARE = 0.9
"""Share of a baseline's bootstrap fits that must end within 1e-6 of ours, or the two are not fits of one objective."""
SCALING_ALLOWANCE = 0.3
"""Relative difference allowed between a full run and the scaled-up parts; shared machines wander."""


@dataclass(frozen=True)
class Task:
    """Something that we do by `ours`, timed in each round as the mean of `repeats` calls, and the contenders at it."""

    name: str
    ours: Callable[[], object]
    repeats: int
    contenders: tuple[Contender, ...]
    seconds: list[Seconds] = field(default_factory=list)

    def run_ours(self, number: int) -> None:
        """Adds to `seconds` what a call takes; every round does the same."""
        taken = measure(lambda: [self.ours() for _ in range(self.repeats)])
        self.seconds.append(taken.times(1 / self.repeats))


def main() -> int:
    """Exit code: 0, or 1 when a check fails or a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no full runs of the baselines, and no file is written")
    record = measure_fits(parser.parse_args().quick)
    met = all(row["target"] is None or row["ratio"].median >= row["target"] for row in record["times"])
    return 0 if met and all(record["checks"].values()) else 1


def measure_fits(quick: bool = False) -> dict:
    """Times, gaps and checks, with the ratios of CPU time to ours `bootstrap_over_bfgs`, `bootstrap_over_slsqp` and
    `point_over_grid` (of the faster of the two grids). Written to RESULTS unless `quick`."""
    machine = one_thread_facts("numpy", "scipy", "autograd")
    runs = chinchilla_runs()
    print(f"{len(runs)} runs, {runs.origin}")
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    autograd = bfgs_autograd.configuration(np.log(runs.N), np.log(runs.D), np.log(runs.L))
    point = _point_fit(runs)
    draws = _bootstrap(point)
    weights = resample_weights(np.arange(len(runs)), NUM_RESAMPLES, SEED, fewest=len(point.theta))
    tasks = (_bootstrap_task(runs, point, weights), _point_task(runs))
    for number in range(NUM_ROUNDS):
        print(f"round {number + 1} of {NUM_ROUNDS}", flush=True)
        work = [one for task in tasks for one in (task.run_ours, *(each.run_part for each in task.contenders))]
        for each in work[number % len(work) :] + work[: number % len(work)]:
            each(number)
    for task in tasks:
        for each in () if quick else task.contenders:
            print(f"full run: {each.name}", flush=True)
            each.run_whole()
    rows = [row for task in tasks for row in _rows(task)]
    accuracy, checks = _judged(runs, point, draws, weights, tasks)
    _print(rows, accuracy, checks)
    bfgs, slsqp, *grids = (row["ratio"].median for row in rows if row["target"])
    record = {
        "bootstrap_over_bfgs": bfgs,
        "bootstrap_over_slsqp": slsqp,
        "point_over_grid": min(grids),
        "data": runs.origin,
        "machine": machine,
        "autograd": autograd,
        "num_resamples": NUM_RESAMPLES,
        "num_rounds": NUM_ROUNDS,
        "times": rows,
        "objective_gaps": accuracy,
        "checks": checks,
    }
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rounded(record), indent=2) + "\n", encoding="utf-8")
    return record


def _point_fit(runs: Runs) -> Fit:
    return fit(Chinchilla, runs.N, runs.D, runs.L, estimator=Huber(bfgs_autograd.DELTA))


def _bootstrap(point: Fit) -> Bootstrap:
    return bootstrap(point, np.arange(len(point.points)), NUM_RESAMPLES, SEED)


def _parameters(values: dict[str, np.ndarray]) -> np.ndarray:
    """(a, b, e, alpha, beta) in raw units, (R, 5), of parameters by name, (R,) each."""
    logarithms = [np.log(values[name]) for name in ("A", "B", "E")]
    return np.stack([*logarithms, values["alpha"], values["beta"]], axis=-1)


def _bootstrap_task(runs: Runs, point: Fit, weights: np.ndarray) -> Task:
    log_N, log_D, log_L = np.log(runs.N), np.log(runs.D), np.log(runs.L)
    means = np.array([log_N.mean(), log_D.mean()])
    x, y = log_N - means[0], log_D - means[1]
    start = _parameters(asdict(point.law))
    start[:2] -= start[3:] * means

    def by_bfgs(number: int) -> np.ndarray:
        rows = np.repeat(np.arange(len(runs)), weights[number].astype(int))
        return bfgs_autograd.fit_from(bfgs_autograd.HOFFMANN, log_N[rows], log_D[rows], log_L[rows]).x

    def by_slsqp(number: int) -> np.ndarray:
        theta = slsqp_analytic.fit_from(start, x, y, log_L, weights[number]).x
        return np.concatenate([theta[:2] + theta[3:] * means, theta[2:]])

    bfgs = Contender("BFGS, autograd, from Hoffmann's parameters", NUM_RESAMPLES, 80, by_bfgs, target=100)
    slsqp = Contender("SLSQP, gradient by hand, from our point fit", NUM_RESAMPLES, 200, by_slsqp, target=8)
    return Task(f"{NUM_RESAMPLES:,} bootstrap fits", lambda: _bootstrap(point), 1, (bfgs, slsqp))


def _point_task(runs: Runs) -> Task:
    logs = np.log(runs.N), np.log(runs.D), np.log(runs.L)
    starts = bfgs_autograd.hoffmann_grid()

    def grid(method: str) -> Contender:
        name = f"{method}, autograd, from {len(starts):,} starts"
        return Contender(
            name, len(starts), 100, lambda number: bfgs_autograd.fit_from(starts[number], *logs, method).x, target=1000
        )

    return Task("point fit", lambda: _point_fit(runs), NUM_POINT_FITS, (grid("L-BFGS-B"), grid("BFGS")))


def _rows(task: Task) -> list[dict]:
    """The lines of the table: times in seconds, ratios of CPU time to ours in the same round."""
    ours = {
        "task": task.name,
        "way": "ours",
        "cpu_seconds": spread(taken.cpu for taken in task.seconds),
        "wall_seconds": spread(taken.wall for taken in task.seconds),
        "ratio": spread([1.0]),
        "target": None,
        "full_run": None,
    }
    theirs = [
        {
            "task": task.name,
            "way": each.name,
            "cpu_seconds": spread(taken.cpu for taken in each.seconds),
            "wall_seconds": spread(taken.wall for taken in each.seconds),
            "ratio": spread(a.cpu / b.cpu for a, b in zip(each.seconds, task.seconds, strict=True)),
            "target": each.target,
            "full_run": each.full and {"cpu_seconds": each.full.cpu, "wall_seconds": each.full.wall},
        }
        for each in task.contenders
    ]
    return [ours, *theirs]


def _judged(
    runs: Runs, point: Fit, draws: Bootstrap, weights: np.ndarray, tasks: tuple[Task, ...]
) -> tuple[dict, dict[str, bool]]:
    """(gaps to our objectives by contender, checks by what they say)."""
    resampled, grids = (task.contenders for task in tasks)
    ours = objectives(_parameters(draws.values), runs, weights)
    once = np.ones((1, len(runs)))
    best = objectives(_parameters(asdict(point.law))[None], runs, once)
    accuracy = {
        each.name: gaps(objectives(each.theta[each.made], runs, weights[each.made]), ours[each.made])
        for each in resampled
    }
    accuracy |= {each.name: gaps(objectives(each.theta[each.made], runs, once), best) for each in grids}
    checks = {
        "our bootstrap reports the objectives that its parameters have": bool(
            np.all(np.abs(draws.objective / ours - 1) < TIE)
        ),
        "no bootstrap fit of a baseline is better than ours by 1e-9": not any(
            accuracy[each.name]["num_better_by_1e-9"] for each in resampled
        ),
        "no start of the grid ends below our point fit by 1e-9": not any(
            accuracy[each.name]["num_better_by_1e-9"] for each in grids
        ),
    }
    for each in resampled:
        checks[f"{CLOSE_SHARE:.0%} of the bootstrap fits end within 1e-6 of ours: {each.name}"] = bool(
            accuracy[each.name]["num_within_1e-6"] >= CLOSE_SHARE * each.made.sum()
        )
    if runs.published:
        checks["our point fit has the least objective known, to 1e-9"] = bool(
            abs(best[0] / PUBLISHED_OBJECTIVE - 1) < TIE
        )
    for each in (*resampled, *grids):
        if each.full:
            scaled = spread(taken.cpu for taken in each.seconds).median
            checks[f"full run within {SCALING_ALLOWANCE:.0%} of the scaled-up parts: {each.name}"] = (
                abs(each.full.cpu / scaled - 1) < SCALING_ALLOWANCE
            )
    return accuracy, checks


def _print(rows: list[dict], accuracy: dict, checks: dict[str, bool]) -> None:
    print("\nCPU seconds, median [least, most] of the rounds; ratio to ours in the same round; full run once")
    for row in rows:
        if row["way"] == "ours":
            print(f"\n{row['task']:<46}{'CPU s':<26}{'ratio':<26}{'target':<16}{'full run, CPU s':<17}wall s")
        met = row["target"] and row["ratio"].median >= row["target"]
        target = f">= {row['target']:,} {'met' if met else 'MISSED'}" if row["target"] else ""
        ratio = row["ratio"].text() if row["target"] else "1"
        full = f"{row['full_run']['cpu_seconds']:.3g}" if row["full_run"] else ""
        wall = row["wall_seconds"].text()
        print(f"  {row['way']:<44}{row['cpu_seconds'].text():<26}{ratio:<26}{target:<16}{full:<17}{wall}")
    print("\nobjectives relative to ours on the same resamples (positive: ours is lower)")
    for name, gap in accuracy.items():
        print(
            f"  {name}: "
            + ", ".join(f"{key} {value:{'.3g' if isinstance(value, float) else ','}}" for key, value in gap.items())
        )
    print()
    for text, passed in checks.items():
        print(f"{'ok    ' if passed else 'FAILED'}  {text}")


if __name__ == "__main__":
    sys.exit(main())
