"""FLOPs of a tuned conventional recipe over the default's at equal loss: python -m benchmarks.multiplier.

The conventional recipe (tuning.py) is tuned at every size and token count of the study. For each of its points the
tokens D' are sought at which the default reaches the same loss at the same size, on the default's own measured curve
L(D): monotone interpolation of ln D in ln L; the default is also trained at smaller token counts than the study's, so
that the curve reaches high enough, and beyond its ends the power law of its last two points holds, which the table
says. At one size FLOPs go as tokens, so the multiplier of a point is D / D', and `compute_multiplier` is the geometric
mean over the grid. That the default's token counts share a trunk is left out of it, and given apart.

About an hour on two cores. Runs are kept in scratch/multiplier, so an interrupted command goes on where it was; for a
partial look there are `--widths` and `--tokens`. Tables go to benchmarks/results/multiplier.csv and
multiplier_tuning.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from scipy.interpolate import PchipInterpolator

from benchmarks.stopwatch import rounded
from benchmarks.tuning import Workbench, run_together, search
from pipeline.execution.run_store import RunStore
from pipeline.experiments.language_model.plan import describe, plan
from pipeline.params import LanguageModel, SizesByTokens, read_params
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import plan_table
from pipeline.results import collect

RESULTS = Path(__file__).parent / "results"
FOLDER = Path("scratch/multiplier")
SMALLER = (16, 8, 4, 2)
"""The default is trained at its least token count over these too."""


def tokens_at(loss: float, D: np.ndarray, L: np.ndarray) -> tuple[float, bool]:
    """(tokens at which a curve through the points (D, L) has the `loss`, whether that lies beyond its ends).

    PCHIP of ln D in ln L. Raises ValueError when L does not fall with D: then no single D has a loss.
    """
    order = np.argsort(D)
    x, y = -np.log(L[order]), np.log(D[order])
    if len(x) < 2 or np.any(np.diff(x) <= 0):
        raise ValueError(f"runs: loss: {L[order].tolist()} does not fall with D = {D[order].tolist()}")
    at = -np.log(loss)
    if x[0] <= at <= x[-1]:
        return float(np.exp(PchipInterpolator(x, y)(at))), False
    i, j = (0, 1) if at < x[0] else (-2, -1)
    return float(np.exp(y[i] + (at - x[i]) * (y[j] - y[i]) / (x[j] - x[i]))), True


def measure_multiplier(widths: list[int] | None = None, tokens: list[int] | None = None) -> dict:
    """`compute_multiplier`, its extremes, the same with the default's tree counted, and the rows of the table.

    `widths` and `tokens` are parts of the study's grid, None for all. The tables are written only for the whole grid.
    """
    params = read_params()
    settings = params.language_model
    if not isinstance(settings.grid, SizesByTokens):
        raise ValueError(f"params.yaml: language_model.grid.kind: {settings.grid.kind} has no rows of equal N")
    partial = widths or tokens
    widths, tokens = widths or sorted(settings.grid.widths), sorted(tokens or settings.grid.tokens)
    bench = Workbench(params, Path("data/tokens"), FOLDER)
    searches = {width: search(tokens, settings.model.context) for width in widths}
    best = run_together(searches, bench.losses)
    ours = _default_curve(bench, settings, widths)
    rows = []
    for width in widths:
        curve = ours.filter(width=width)
        D, L = curve["D"].to_numpy().astype(float), curve["loss"].to_numpy()
        for count in tokens:
            dials = best[width][count]
            spec, loss = bench.measured[width, count, dials], bench.loss(width, count, dials)
            trained = spec.settings["course"]["end"]
            equal, beyond = tokens_at(loss, D, L)
            row = {"width": width, "N_non_embedding": curve["N_non_embedding"][0], "D": trained, "baseline_loss": loss}
            row |= {"default_tokens": equal, "multiplier": trained / equal, "extrapolated": beyond}
            rows.append(row | asdict(dials))
    table, tuned = pl.DataFrame(rows), pl.DataFrame(bench.table(), infer_schema_length=None)
    if not partial:
        RESULTS.mkdir(exist_ok=True)
        table.write_csv(RESULTS / "multiplier.csv")
        tuned.write_csv(RESULTS / "multiplier_tuning.csv")
    mean, tree = float(np.exp(np.log(table["multiplier"]).mean())), _tree_saving(bench, settings)
    return {
        "compute_multiplier": mean,
        "least": table["multiplier"].min(),
        "most": table["multiplier"].max(),
        "tree_saving": tree,
        "compute_multiplier_with_tree": mean * tree,
        "num_extrapolated": int(table["extrapolated"].sum()),
        "num_tuning_runs": tuned.height,
        "whole_grid": not partial,
        "points": rows,
    }


def _default_curve(bench: Workbench, settings: LanguageModel, widths: list[int]) -> pl.DataFrame:
    """The default's points by width and D: the study's own where it has been made, and smaller token counts."""
    least = min(settings.grid.tokens)
    held = settings.schedule.warmup_tokens + settings.batch.tokens
    small = [least // part for part in SMALLER if least // part > 1.5 * held]
    study = _plan(bench, settings, widths, settings.grid.tokens)
    own = RunStore(Path.cwd())
    if not all(own.settled(spec.run_id) for spec in study):
        bench.train(study)
        own = bench.store
    more = _plan(bench, settings, widths, small)
    bench.train(more)
    parts = [_collected(study, own, settings), _collected(more, bench.store, settings)]
    return pl.concat(parts).filter(pl.col("loss").is_not_null())


def _plan(bench: Workbench, settings: LanguageModel, widths: list[int], tokens: list[int]) -> list[RunSpec]:
    grid = SizesByTokens(kind="sizes_by_tokens", widths=widths, tokens=list(tokens))
    asked = settings.model_copy(update={"grid": grid, "replicates": type(settings.replicates)()})
    return plan(asked, bench.facts) if tokens else []


def _collected(specs: list[RunSpec], store: RunStore, settings: LanguageModel) -> pl.DataFrame:
    return collect(plan_table(specs, [describe(spec, settings.seed) for spec in specs]), store)[0]


def _tree_saving(bench: Workbench, settings: LanguageModel) -> float:
    """FLOPs of the study's grid with every point from scratch over those of its tree."""
    specs = _plan(bench, settings, sorted(settings.grid.widths), settings.grid.tokens)
    table = plan_table(specs, [describe(spec, settings.seed) for spec in specs])
    return table.filter(pl.col("kind") != "trunk")["C"].sum() / table["flops_own"].sum()


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multiplier", description=__doc__.splitlines()[0])
    for name in ("widths", "tokens"):
        parser.add_argument(
            f"--{name}", type=lambda text: [int(x) for x in text.split(",")], help="a,b,...: only these"
        )
    asked = parser.parse_args()
    print(json.dumps(rounded(measure_multiplier(asked.widths, asked.tokens)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
