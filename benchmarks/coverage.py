"""Do 95 % intervals cover? Simulated studies from known laws with noise, in parallel on Ray.

Each study draws ln L = ln law(N, D) + noise on a fixed grid, fits the law, resamples runs and asks of every parameter,
and of the loss at the optimum of ten times the largest compute, whether its 95 % interval holds the truth.
`python -m benchmarks.coverage` writes benchmarks/results/coverage.csv, which the report prints as an appendix;
`--studies 100` is a quick look, and `--law NAME` one law.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from scipy.stats import beta

from pipeline.fitting.estimators import L2, Estimator, Huber
from pipeline.fitting.laws import (
    BrokenC,
    BrokenN,
    Chinchilla,
    DataConstrained,
    Interaction,
    Kaplan,
    Law,
    NoOffset,
    OverTraining,
    QForm,
    SaturatingC,
    SaturatingN,
    Tied,
    TwoRecipes,
)
from pipeline.fitting.runs import Runs
from pipeline.fitting.uncertainty import bootstrap

RESULTS = Path(__file__).parent / "results" / "coverage.csv"
COLUMNS = ("law", "estimator", "num_runs", "noise_sd", "quantity", "coverage", "low", "high", "num_studies")
NUM_RESAMPLES = 500
CHUNK = 25
"""Studies a Ray task: some seconds of work."""
FORECAST = "loss at 10 C"


@dataclass(frozen=True)
class Case:
    """A known law on a grid of sizes by token counts (or budgets, for laws of C), with noise of ln L."""

    law: Law
    estimator: Estimator
    num_sizes: int
    num_tokens: int
    noise_sd: float

    @property
    def small(self) -> bool:
        """Whether the law is that of a small study: 25k to 750k parameters."""
        return isinstance(self.law, QForm) and self.law.B < 1000

    def runs(self) -> Runs:
        """The runs without noise."""
        sizes, tokens = ((2.5e4, 7.5e5), (1.2e5, 1.9e6)) if self.small else ((3e7, 1e10), (1e9, 3e11))
        grid = np.meshgrid(np.geomspace(*sizes, self.num_sizes), np.geomspace(*tokens, self.num_tokens))
        N, D = (values.ravel() for values in grid)
        repeats = np.geomspace(1.5, 40.0, len(D))[np.random.default_rng(0).permutation(len(D))]
        known = {"unique_tokens": D / repeats, "recipe": np.arange(len(D)) % 2.0}
        columns = {name: known[name] for name in self.law.columns}
        return Runs.of(N, D, self.law.loss(N, D, **columns), columns=columns)


LARGE = Chinchilla(E=1.82, A=482.0, alpha=0.348, B=2085.0, beta=0.366)
SMALL = QForm(E=0.85, A=15.0, alpha=0.305, B=91.0, beta=0.377, q=1.53)
CASES = (
    Case(LARGE, Huber(), 6, 5, 0.005),
    Case(LARGE, L2, 6, 5, 0.005),
    Case(LARGE, Huber(), 9, 9, 0.005),
    Case(LARGE, Huber(), 16, 15, 0.01),
    Case(SMALL, Huber(), 6, 5, 0.0035),
    Case(SMALL, Huber(), 9, 9, 0.0035),
    Case(Tied(E=1.7, A=400.0, B=500.0, alpha=0.33), Huber(), 9, 9, 0.005),
    Case(NoOffset(A=8.0, alpha=0.10, B=30.0, beta=0.12), Huber(), 9, 9, 0.005),
    Case(Kaplan(N_c=8.8e13, alpha_N=0.076, D_c=5.4e13, alpha_D=0.095), Huber(), 9, 9, 0.005),
    Case(SaturatingC(E=1.7, A=1000.0, gamma=0.15), Huber(), 9, 9, 0.005),
    Case(SaturatingN(E=1.7, A=100.0, gamma=0.3), Huber(), 9, 9, 0.005),
    Case(BrokenN(E=1.2, A=20.0, c0=0.12, c1=0.2, d1=5e8, f1=0.5), Huber(), 16, 15, 0.002),
    Case(BrokenC(E=1.1, A=100.0, c0=0.08, c1=0.1, d1=1e20, f1=1.2), Huber(), 16, 15, 0.002),
    Case(Interaction(E=1.5, A=300.0, alpha=0.35, B=400.0, beta=0.33, K=20.0, gamma=0.4), Huber(), 16, 15, 0.002),
    Case(OverTraining(E=1.5, a=113.0, b=190.0, c=-0.25), Huber(), 9, 9, 0.005),
    Case(DataConstrained(E=1.87, A=521.0, alpha=0.35, B=1488.0, beta=0.37, R_D=15.4, R_N=5.3), Huber(), 12, 12, 0.003),
    Case(TwoRecipes(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28, m_N=1.3, m_D=1.1), Huber(), 12, 12, 0.005),
)


def covered(case: Case, seeds: range) -> list[dict[str, bool]]:
    """For each simulated study whether the interval of each quantity holds the truth."""
    truth, runs, found = case.law, case.runs(), []
    columns = {"unique_tokens": 1e13, "recipe": 1.0}
    columns = {name: columns[name] for name in truth.columns}
    C = 10.0 * float(runs.C.max())
    N = truth.optimal_size([C], **columns)
    if hasattr(truth, "variable"):
        N = np.array([float(runs.N.max())]) * (10.0 if truth.variable == "N" else 1.0)
    D = C / 6.0 / N
    at = {name: np.array([value]) for name, value in columns.items()}
    for seed in seeds:
        noise = case.noise_sd * np.random.default_rng([seed, *case.law.name.encode(), len(runs)]).standard_normal(
            len(runs)
        )
        fit = runs.with_losses(runs.L * np.exp(noise)).fitted(type(truth), case.estimator)
        draws = bootstrap(fit, runs.cell, NUM_RESAMPLES, seed)
        intervals = draws.intervals()
        inside = {name: intervals[name][0] <= getattr(truth, name) <= intervals[name][1] for name in intervals}
        log_L = float(np.log(fit.law.loss(N, D, **at)[0]))
        low, high = draws.interval(draws.log_loss(N, D, at)[:, 0], log_L)
        inside[FORECAST] = bool(low <= np.log(truth.loss(N, D, **at)[0]) <= high)
        found.append(inside)
    return found


def main() -> int:
    """Runs the studies, prints one line a quantity, writes the table."""
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals in simulated studies.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a case")
    parser.add_argument("--law", help="one law only; nothing is written")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.law in (None, case.law.name)]
    if not cases:
        raise SystemExit(f"--law: {arguments.law!r} is none of {', '.join(sorted({c.law.name for c in CASES}))}")
    # Workers at Ray's default niceness would starve beside any other program.
    ray.init(address="local", include_dashboard=False, log_to_driver=False, _system_config={"worker_niceness": 0})
    task = ray.remote(num_cpus=1)(covered)
    starts = range(0, arguments.studies, CHUNK)
    pending = {
        task.remote(case, range(first, min(first + CHUNK, arguments.studies))): index
        for index, case in enumerate(cases)
        for first in starts
    }
    inside: list[list[dict[str, bool]]] = [[] for _ in cases]
    left, begun, rows = len(pending), time.monotonic(), []
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        index = pending.pop(ready)
        inside[index] += ray.get(ready)
        left -= 1
        if len(inside[index]) == arguments.studies:
            rows.append((index, _rows(cases[index], inside[index])))
            for row in rows[-1][1]:
                print("  ".join(str(value) for value in row), flush=True)
            spent = time.monotonic() - begun
            print(
                f"  {spent:.0f} s, about {spent * left / max(len(starts) * len(cases) - left, 1):.0f} s left",
                flush=True,
            )
    ray.shutdown()
    if arguments.law is None:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(row for _, group in sorted(rows, key=lambda entry: entry[0]) for row in group)
    return 0


def _rows(case: Case, studies: list[dict[str, bool]]) -> list[tuple]:
    """One row a quantity: its coverage with the 95 % Clopper-Pearson interval."""
    rows, n = [], len(studies)
    for quantity in studies[0]:
        count = sum(study[quantity] for study in studies)
        low = float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0
        high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
        name = case.estimator.text.split(" on ")[0]
        head = (case.law.name, name, case.num_sizes * case.num_tokens, case.noise_sd, quantity)
        rows.append((*head, round(count / n, 4), round(low, 4), round(high, 4), n))
    return rows


if __name__ == "__main__":
    sys.exit(main())
