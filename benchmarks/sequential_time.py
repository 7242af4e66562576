"""What the sequential baseline takes in all, from a sample of its steps: python -m benchmarks.sequential_time.

A width's way (threads, precision of Muon, torch.compile with the time that compiling takes) is the fastest of those
tried here. Then every round times, for every width, steps at a few batch sizes and a part of the evaluation; between
batch sizes seconds a step are interpolated, and every step of every point is added up. `--check` trains all points of
one width and the longest of the largest width in full, and compares time with the sample's and loss with the study's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import polars as pl
import torch

from benchmarks.sequential import Point, Text, Training, Way, course, points, train_point
from benchmarks.stopwatch import free_environment, num_cores, rounded
from pipeline.params import LanguageModel, read_params

SECONDS = 0.4
"""Steps of one width and batch size are timed for so long in a round, and at least FEWEST of them."""
FEWEST, WARM = 5, 2
BATCH_SIZES = 5
EVALUATED = 8
"""One part in so many of the validation windows is evaluated in a round."""
NUM_ROUNDS = 5
FULL_WIDTH = 64
"""The width, or the nearest one of the study, that `check` trains in full."""


class Sample:
    """Rounds of timed steps of the baseline of `settings` on the corpus in `tokens`; `ways` holds a way a width."""

    def __init__(self, settings: LanguageModel, tokens: Path):
        self.settings, self.text = settings, Text(tokens, settings)
        self.points = points(settings)
        self.widths = sorted({point.width for point in self.points})
        sizes = [windows for point in self.points for windows, _ in course(settings, point.tokens)]
        self.batches = sorted({round(x) for x in np.linspace(min(sizes), max(sizes), BATCH_SIZES)})
        self.trainings: dict[tuple[int, Way], Training] = {}
        self.compiling: dict[tuple[int, Way], float] = {}
        self.tried: list[dict] = []
        self.ways = {width: self._fastest(width) for width in self.widths}
        self.rounds: list[dict] = []

    def run_round(self) -> None:
        """Adds a round: seconds of the start, a step by batch size, and an evaluation, by width."""
        found = {"start": _start()}
        for width in self.widths:
            way = self.ways[width]
            steps = {size: self._step(width, way, size) for size in self.batches}
            part = self.text.validation[::EVALUATED]
            began = perf_counter()
            self._training(width, way).evaluate(part)
            found[width] = {"steps": steps, "evaluation": (perf_counter() - began) * EVALUATED}
        self.rounds.append(found)

    def seconds(self, number: int, chosen: list[Point] | None = None) -> float:
        """Wall time of the `chosen` points (all) by round `number`; the whole has the start and the compiling in it."""
        found, total = self.rounds[number], 0.0
        for point in self.points if chosen is None else chosen:
            sizes = [windows for windows, _ in course(self.settings, point.tokens)]
            by_size = found[point.width]["steps"]
            total += float(np.interp(sizes, list(by_size), list(by_size.values())).sum())
            total += found[point.width]["evaluation"]
        if chosen is None:
            total += found["start"] + sum(self.compiling.get(item, 0.0) for item in self.ways.items())
        return total

    def record(self) -> dict:
        """The total of every round in seconds, the ways and what was tried, and medians by width."""
        whole = [self.seconds(number) for number in range(len(self.rounds))]
        each = {}
        for width in self.widths:
            own = [point for point in self.points if point.width == width]
            steps = {size: median(found[width]["steps"][size] for found in self.rounds) for size in self.batches}
            each[width] = {
                "way": asdict(self.ways[width]),
                "seconds": median(self.seconds(number, own) for number in range(len(self.rounds))),
                "compile_seconds": self.compiling.get((width, self.ways[width]), 0.0),
                "evaluation_seconds": median(found[width]["evaluation"] for found in self.rounds),
                "step_seconds_by_windows": steps,
            }
        return {"seconds": whole, "num_points": len(self.points), "widths": each, "tried": self.tried}

    def check(self, runs: pl.DataFrame | None) -> list[dict]:
        """Time and loss of points trained in full, beside the sample's time and the loss that `runs` has of them."""
        full = min(self.widths, key=lambda width: abs(width - FULL_WIDTH))
        longest = max((point for point in self.points if point.width == self.widths[-1]), key=lambda x: x.tokens)
        rows = []
        for point in dict.fromkeys([point for point in self.points if point.width == full] + [longest]):
            began = perf_counter()
            loss = train_point(point, self.settings, self.text, self.ways[point.width])
            taken = perf_counter() - began
            expected = median(self.seconds(number, [point]) for number in range(len(self.rounds)))
            rows.append(asdict(point) | {"seconds": taken, "expected_seconds": expected, "loss": loss})
            rows[-1]["study_loss"] = _study_loss(runs, point)
            print(", ".join(f"{name} {value}" for name, value in rounded(rows[-1]).items()), flush=True)
        return rows

    def _fastest(self, width: int) -> Way:
        """The way with the least time for all points of `width`, by steps of the middle batch size."""
        own = [point for point in self.points if point.width == width]
        num_steps = sum(len(course(self.settings, point.tokens)) for point in own)
        taken: dict[Way, float] = {}

        def attempt(way: Way) -> None:
            step = self._step(width, way, self.batches[len(self.batches) // 2])
            taken[way] = num_steps * step + self.compiling.get((width, way), 0.0)
            self.tried.append({"width": width} | asdict(way) | {"seconds": taken[way]})

        for threads in sorted({1, num_cores()}):
            for precision in ("float32", "bfloat16"):
                attempt(Way(threads, precision))
        best = min(taken, key=taken.get)
        attempt(Way(best.threads, best.muon, compiled=True))
        return min(taken, key=taken.get)

    def _training(self, width: int, way: Way) -> Training:
        if (width, way) not in self.trainings:
            self.trainings[width, way] = Training(self.settings, self.text, width, way)
            if way.compiled:
                began = perf_counter()
                for size in self.batches[:2]:
                    self.trainings[width, way].step(size, 0.0)
                self.compiling[width, way] = perf_counter() - began
        torch.set_num_threads(way.threads)
        return self.trainings[width, way]

    def _step(self, width: int, way: Way, size: int) -> float:
        """Mean seconds of a step on `size` windows."""
        training, count = self._training(width, way), 0
        for _ in range(WARM):
            training.step(size, 0.5)
        self._wait()
        began = perf_counter()
        while count < FEWEST or perf_counter() - began < SECONDS:
            training.step(size, 0.5)
            count += 1
        self._wait()
        return (perf_counter() - began) / count

    def _wait(self) -> None:
        if self.text.device.type == "cuda":
            torch.cuda.synchronize()


def _start() -> float:
    """Seconds until a new process has opened the corpus and could train."""
    code = (
        "from pathlib import Path; from benchmarks.sequential import Text, read_params;"
        "Text(Path('data/tokens'), read_params().language_model)"
    )
    began = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=free_environment())
    return perf_counter() - began


def _study_loss(runs: pl.DataFrame | None, point: Point) -> float | None:
    """The study's loss of the point nearest in tokens, within 2 %."""
    if runs is None:
        return None
    near = (pl.col("D") / point.tokens - 1).abs() < 0.02
    found = runs.filter(pl.col("loss").is_not_null(), near, width=point.width, seed=point.seed)
    return found["loss"][0] if found.height else None


def measure_check(root: Path = Path()) -> dict:
    """`sequential_check`: seconds of the points trained in full over the sample's, and the rows of `Sample.check`."""
    sample = Sample(read_params(root / "params.yaml").language_model, root / "data/tokens")
    for _ in range(NUM_ROUNDS):
        sample.run_round()
    published = root / "results/runs.parquet"
    rows = sample.check(pl.read_parquet(published) if published.exists() else None)
    ratio = sum(row["seconds"] for row in rows) / sum(row["expected_seconds"] for row in rows)
    return {"sequential_check": ratio, "points": rows, "baseline": sample.record()}


def main() -> int:
    """Prints the sample, and the check where it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential_time", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="train some points in full too")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    asked = parser.parse_args()
    if asked.check:
        print(json.dumps(rounded(measure_check()), indent=1))
        return 0
    sample = Sample(read_params().language_model, Path("data/tokens"))
    for _ in range(asked.rounds):
        sample.run_round()
    print(json.dumps(rounded(sample.record()), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
