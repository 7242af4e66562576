"""How the cost of a study grows with its size: python -m benchmarks.growth [--quick].

Tables of seconds and peak memory, each with its exponent, the slope of ln seconds on ln size: the orchestration of
a study against its runs, prepare against the bytes of the corpus, a fit against its rows, the fit stage and the report
against the runs of a simulated study, up to 100,000. Each point is a process of its own, timed after its imports, the
least of some rounds: CPU seconds, but wall seconds for orchestration, whose work is in Ray's processes. A study is
simulated in another process, so that the peak is that of the stage. What does not grow (a first map of starting points,
resamples of hold-outs, a page's frame) makes an exponent smaller than that of the part that grows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.simulated_study import LAW, MANIFEST, NOISE_SD, NUM_TOKEN_COUNTS, write_records, write_study
from benchmarks.stopwatch import Seconds, measure, rounded
from pipeline.corpus.prepare import prepare_corpus
from pipeline.execution.cluster import Cluster
from pipeline.execution.executor import Executor, Policy
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL, StudyFacts, step
from pipeline.experiments.language_model.plan import describe
from pipeline.fitting.analysis import analyse
from pipeline.fitting.estimators import Huber
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.runs import Runs
from pipeline.params import Prepare, read_params
from pipeline.planning.table import plan_table, read_plan
from pipeline.reporting.study_report import write_report
from pipeline.results import collect_law, collect_study, judge_study
from pipeline.study import make_bill

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "orchestration_runs": (10, 30, 100, 300),
    "prepare_bytes": (10_000_000, 30_000_000, 100_000_000, 300_000_000, 1_000_000_000),
    "fit_rows": (100, 1_000, 10_000, 100_000),
    "plan_stage_runs": (100, 1_000, 10_000, 100_000),
    "collect_stage_runs": (100, 1_000, 10_000, 100_000),
    "fit_stage_runs": (100, 1_000, 10_000, 100_000),
    "report_runs": (100, 1_000, 10_000, 100_000),
}
CHEAPEST = ("batch_size", "one_step")
"""Law and kind of the runs that are orchestrated: some milliseconds each."""
MOST_TOKENS = 10**12
"""Training tokens that these runs, which read no corpus, are told of."""
NUM_ROUNDS, LONG_SECONDS = 3, 60.0
"""Rounds of a point; once that many seconds have passed, a point is measured no more."""
MOST_EXPONENT = 1.1


def measure_growth(quick: bool = False) -> dict:
    """For each of SIZES its `sizes`, `seconds`, `peak_mib` and `exponent`; `quick` leaves out the largest size."""
    table = {}
    for name, sizes in SIZES.items():
        sizes = sizes[:-1] if quick else sizes
        seconds, peaks = [], []
        for size in sizes:
            taken, began = [], time.monotonic()
            while not taken or (not quick and len(taken) < NUM_ROUNDS and time.monotonic() - began < LONG_SECONDS):
                taken.append(_apart(name, size))
            seconds.append(min(one["seconds"] for one in taken))
            peaks.append(max(one["peak_mib"] for one in taken))
            print(f"  {name} {size:,}: {seconds[-1]:.3g} s, peak {peaks[-1]:.0f} MiB", flush=True)
        exponent = exponent_of(sizes, seconds)
        table[name] = {"sizes": list(sizes), "seconds": seconds, "peak_mib": peaks, "exponent": exponent}
    return table


def exponent_of(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The least-squares slope of ln seconds on ln size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _apart(name: str, size: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.growth", "--one", name, str(size)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _orchestration(size: int, folder: Path) -> Seconds:
    """Plan's table, bill, execution, storage and collection of `size` runs, after Ray has started."""
    law, kind = CHEAPEST
    settings = read_params(ROOT / "params.yaml")
    facts = StudyFacts("", 256, MOST_TOKENS, settings.language_model)
    planned = step(law, "plan")(settings.laws.tested[law], facts)
    spec = next(spec for spec in planned if spec.kind == kind)
    specs = [replace(spec, seed=seed) for seed in range(size)]
    store = RunStore(folder)
    for name in ("runs", "telemetry"):
        (folder / name).mkdir()
    policy = Policy(folder, settings.train.micro_batch_tokens, settings.train.checkpoint_seconds, 0)

    def work() -> None:
        plan_table(specs, [{}] * size).write_parquet(folder / "plan.parquet")
        planned = read_plan(folder / "plan.parquet")[1]
        failed = Executor(planned, store, cluster, policy, (), make_bill(planned, store).seconds).run()
        assert not failed, failed
        assert collect_law(planned, store)[0].height == size

    with Cluster() as cluster:
        warm = replace(spec, seed=size)  # a worker is there, and has imported what the runs need
        Executor([warm], store, cluster, policy, (), {warm.run_id: 1.0}).run()
        return measure(work)


def _prepare(size: int, folder: Path) -> Seconds:
    """The corpus of a file of `size` bytes, documents of some 5 kB."""
    random = np.random.default_rng(0)
    words = [random.integers(97, 123, length, np.uint8).tobytes() for length in random.integers(2, 12, 5000)]
    document = 5_000
    with (folder / "corpus.jsonl").open("wb") as file:
        while file.tell() < size:
            text = b" ".join(words[i] for i in random.integers(0, len(words), document // 7))
            file.write(b'{"text": "' + text + b'"}\n')
    source = {"kind": "jsonl", "path": str(folder / "corpus.jsonl"), "column": "text"}
    settings = Prepare.model_validate({"sources": [source], "tokenizer": {"kind": "bytes"}, "validation_fraction": 0.1})
    return measure(lambda: prepare_corpus(settings, folder / "tokens", lambda *_: None))


def _fit(size: int, folder: Path) -> Seconds:
    """What `study fit` does: fit, 1,000 resamples, rolling hold-out, on noisy losses of a known law."""
    random = np.random.default_rng(0)
    N, D = np.exp(random.uniform(np.log(1e6), np.log(1e9), size)), np.exp(random.uniform(18, 25, size))
    runs = Runs.of(N, D, LAW.loss(N, D) * np.exp(NOISE_SD * random.standard_normal(size)))
    return measure(lambda: analyse(Chinchilla, runs, Huber(), 1000, 0))


def _plan_stage(size: int, folder: Path) -> Seconds:
    """The plan of a study of `size` runs that are all finished, and its bill."""
    _elsewhere(_simulate, folder, size)
    _elsewhere(write_records, folder)
    settings = read_params(folder / "params.yaml").language_model
    facts = StudyFacts(MANIFEST["digest"], MANIFEST["vocab_size"], MANIFEST["train"]["tokens"], settings)

    def work() -> None:
        specs = step(LANGUAGE_MODEL, "plan")(settings, facts)
        assert not make_bill(specs, RunStore(folder)).new
        plan_table(specs, [describe(spec, settings.seed) for spec in specs]).write_parquet(folder / "plan/runs.parquet")

    return measure(work)


def _collect_stage(size: int, folder: Path) -> Seconds:
    """The tables of a study of `size` runs from its records."""
    _elsewhere(_simulate, folder, size)
    _elsewhere(write_records, folder)

    def work() -> None:
        plan, _ = read_plan(folder / "plan/runs.parquet")
        assert collect_study(plan, [], RunStore(folder), folder / "results").height >= size

    return measure(work)


def _fit_stage(size: int, folder: Path) -> Seconds:
    """The judgement of a simulated study of `size` runs, written."""
    _elsewhere(_simulate, folder, size)
    return measure(lambda: _judge(folder))


def _simulate(folder: Path, size: int) -> None:
    """A study that grows in sizes and in token counts alike: 6 of these for 1,000 runs, 63 for 100,000."""
    write_study(folder, size, max(NUM_TOKEN_COUNTS, round(0.2 * size**0.5)))


def _elsewhere(work: Callable[..., None], *arguments: Path | int) -> None:
    """Runs the work in a process of its own, whose memory does not count."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()


def _judge(folder: Path) -> None:
    params = read_params(folder / "params.yaml")
    judge_study(params, folder / "results", params.laws.tested)


def _report(size: int, folder: Path) -> Seconds:
    """The page of a simulated study of `size` runs."""
    _elsewhere(_simulate, folder, size)
    _elsewhere(_judge, folder)
    os.chdir(folder)
    params = read_params()
    return measure(lambda: write_report(params, Path(), Path()))


WORK: dict[str, Callable[[int, Path], Seconds]] = {
    "orchestration_runs": _orchestration,
    "prepare_bytes": _prepare,
    "fit_rows": _fit,
    "plan_stage_runs": _plan_stage,
    "collect_stage_runs": _collect_stage,
    "fit_stage_runs": _fit_stage,
    "report_runs": _report,
}


def _one(name: str, size: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        taken = WORK[name](size, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": taken.wall if name == "orchestration_runs" else taken.cpu, "peak_mib": peak}


def main() -> int:
    """Exit code: 0, or 1 when an exponent is above MOST_EXPONENT. Prints the table as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, without the largest sizes")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help="one point, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(options.one[0], int(options.one[1]))))
        return 0
    table = measure_growth(options.quick)
    print(json.dumps(rounded(table), indent=2))
    return 0 if all(row["exponent"] <= MOST_EXPONENT for row in table.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
