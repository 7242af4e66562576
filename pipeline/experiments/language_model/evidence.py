"""Everything that is computed from the runs of the language-model study before anything is concluded from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.experiments.language_model.choice import choose
from pipeline.fitting.compare import gate
from pipeline.fitting.cutoffs import Bend, Subset, convex_floor, convexity, cutoffs, largest_accepted
from pipeline.fitting.estimators import Estimator, estimator_named
from pipeline.fitting.frontier import Frontier, compute_grid, frontier
from pipeline.fitting.holdout import HoldOut, compute_quantile, hold_out
from pipeline.fitting.interval_checks import enough_clusters
from pipeline.fitting.isoflop import IsoFlop, isoflop
from pipeline.fitting.lack_of_fit import LackOfFit, lack_of_fit
from pipeline.fitting.laws import Chinchilla, Law, QForm
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, cell_weights
from pipeline.fitting.runs import Runs
from pipeline.fitting.seed_noise import SeedNoise, seed_noise
from pipeline.fitting.solver import FEWEST_FOR_INTERVALS, Fit
from pipeline.fitting.tree_noise import TreeNoise
from pipeline.fitting.uncertainty import Bootstrap, bootstrap
from pipeline.fitting.validation import rolling_origin
from pipeline.params import Fit as FitSettings

FORMS: tuple[type[Law], ...] = (Chinchilla, QForm)
"""The forms in order of their number of parameters: where two fit equally well, the earlier one is preferred."""
HOLDOUT_RESAMPLES = 300
"""Resamples of each origin of the rolling hold-out."""
CONVENTIONS = {"total": "N_total", "non_embedding": "N_non_embedding", "with_head": "N_with_head"}
"""Convention of N -> its column of results/runs.parquet."""


@dataclass(frozen=True)
class Trial:
    """One form fitted to all points: the fit, its resamples of cells and of whole trees (None: no interval), both
    tests, the hold-out that chooses, the rolling one, and cut-offs. `gate` says why its parameters must not be printed,
    "" if they may.
    """

    fit: Fit
    draws: Bootstrap | None
    tree_draws: Bootstrap | None
    lack_of_fit: LackOfFit | None
    lack_of_fit_in_trees: LackOfFit | None
    holdout: HoldOut | None
    origins: list[HoldOut]
    subsets: list[Subset]
    gate: str = ""

    @property
    def printable(self) -> bool:
        """Whether parameters may be quoted."""
        return self.draws is not None and not self.gate

    @property
    def by_trees(self) -> bool:
        """Whether there are trees enough to resample those, whose runs share data order and early training."""
        return self.tree_draws is not None

    @property
    def independent_draws(self) -> Bootstrap | None:
        """The resamples for all that follows from the law, its frontier and its forecasts: of trees, or of cells."""
        return self.tree_draws or self.draws


@dataclass(frozen=True)
class Evidence:
    """All fits of one study. `points` are sorted rows of runs.parquet with N by the headline convention and C = 6 N D.

    `noise_sd` is the relative sd used where noise is needed: between seeds, or, without replicates, the smallest
    residual of a law. `trials` is empty when there is no point at all.
    """

    points: pl.DataFrame
    excluded: pl.DataFrame
    runs: Runs
    estimator: Estimator
    noise: SeedNoise | None
    noise_sd: float | None
    trials: dict[str, Trial]
    chosen: str
    chosen_because: str
    bends: list[Bend]
    floors: dict[str, float | None]
    valid: Subset | None
    isoflop: IsoFlop
    frontier: Frontier | None

    def column(self, name: str) -> NDArray[np.float64]:
        """One column of the points as floats."""
        return self.points[name].to_numpy().astype(float)

    @property
    def tree(self) -> NDArray[np.int64]:
        """A label for each point, the same for the points of one trunk."""
        return _labels(self.points)

    @property
    def trial(self) -> Trial | None:
        """The trial of the chosen law, None when there is no point at all."""
        return self.trials.get(self.chosen)


def split_points(runs: pl.DataFrame, convention: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(the points of the law, the rows left out with status and reason), both sorted.

    A point is a finished cooldown or run from scratch with a finite positive loss, of the recipe that most points
    have: a law compares runs of one recipe. Trunks carry no loss of their own and are left out only when they failed.
    """
    repeated = runs.filter(pl.col("run_id").is_duplicated())["run_id"]
    if len(repeated):
        raise ValueError(f"results/runs.parquet: run_id: {repeated[0]} appears more than once")
    measured = (pl.col("status") == "finished") & (pl.col("kind") != "trunk")
    sound = pl.col("loss").is_not_null() & pl.col("loss").is_finite() & (pl.col("loss") > 0)
    counts = runs.filter(measured & sound)["recipe"].value_counts().sort(["count", "recipe"], descending=[True, False])
    leading = counts["recipe"].head(1).to_list()
    reason = (
        pl.when(pl.col("status") != "finished")
        .then(pl.col("reason").fill_null("no reason recorded"))
        .when(measured & ~sound.fill_null(False))
        .then(pl.lit("loss is missing, not finite or not positive"))
        .when(measured & ~pl.col("recipe").is_in(leading))
        .then(pl.format("recipe {} is not that of the law, {}", "recipe", pl.lit("".join(leading))))
    )
    judged = runs.with_columns(reason.alias("left_out"))
    excluded = judged.filter(pl.col("left_out").is_not_null()).select(
        "run_id", "kind", "width", "D", "seed", "status", pl.col("left_out").alias("reason")
    )
    points = judged.filter(measured & pl.col("left_out").is_null()).with_columns(
        pl.col(CONVENTIONS[convention]).alias("N"),
        (FLOPS_PER_PARAMETER_TOKEN * pl.col(CONVENTIONS[convention]) * pl.col("D")).alias("C_law"),
        pl.when(pl.col("kind") == "scratch")
        .then(pl.col("run_id"))
        .otherwise(pl.format("{} {} {}", "width", "depth", "seed"))
        .alias("tree"),
    )
    order = ["N", "D", "seed", "run_id"]
    return points.sort(order), excluded.sort(["width", "D", "seed", "kind", "run_id"])


def gather(settings: FitSettings, runs: pl.DataFrame) -> Evidence:
    """Both laws fitted to the points of `runs`, tested, and what follows from the one that the hold-out chooses."""
    points, excluded = split_points(runs, settings.convention)
    N, D, L, C = (points[name].to_numpy().astype(float) for name in ("N", "D", "loss", "C_law"))
    table = Runs.of(N, D, L, C, cell_weights(N, D) if len(points) else np.array([]))
    estimator = estimator_named(settings.estimator, settings.delta)
    tree = _labels(points)
    noise = seed_noise(L, N, D, tree) if len(points) else None
    noise = noise if noise and noise.sd > 0 else None
    fits = {form.name: table.fitted(form, estimator, settings.num_starts) for form in FORMS} if len(points) else {}
    usable = [one.rms for one in fits.values() if one.identified]
    noise_sd = noise.sd if noise else min(usable, default=None)
    trials = {name: _trial(settings, one, table, estimator, tree, noise) for name, one in fits.items()}
    trials = {name: _gated(name, trials) for name in trials}
    between = noise.of_trees(tree) if noise else TreeNoise.independent(noise_sd or 0.0, len(points))
    chosen, because = choose(FORMS, trials, between)
    trial = trials.get(chosen)
    bends: list[Bend] = []
    if noise:
        bends = convexity(N, D, L, noise.sd, noise.within_tree_sd or noise.sd)
    floors = {variable: convex_floor(bends, variable) for variable in ("N", "D")}
    valid = None
    if noise and trial:
        valid = largest_accepted(trial.subsets, floors["N"] or 0.0, floors["D"] or 0.0)
    iso = IsoFlop([], None, None)
    if noise_sd is not None:
        iso = isoflop(N, D, L, noise_sd, settings.bootstrap, settings.seed)
    best = None
    if trial and trial.printable:
        best = frontier(trial.fit.law, trial.independent_draws, compute_grid(C))
    return Evidence(
        points, excluded, table, estimator, noise, noise_sd, trials, chosen, because, bends, floors, valid, iso, best
    )


def _labels(points: pl.DataFrame) -> NDArray[np.int64]:
    return np.unique(points["tree"].to_numpy(), return_inverse=True)[1].reshape(-1)


def _gated(name: str, trials: dict[str, Trial]) -> Trial:
    trial = trials[name]
    if not trial.fit.identified:
        return trial
    richer = {
        other.name: trials[other.name].origins
        for other in FORMS
        if len(other.parameters()) > len(trial.fit.theta) and trials[other.name].fit.identified
    }
    p = trial.lack_of_fit.p if trial.lack_of_fit else None
    return replace(trial, gate=gate(trial.fit, trial.origins, richer, p))


def _trial(
    settings: FitSettings,
    one: Fit,
    runs: Runs,
    estimator: Estimator,
    tree: NDArray,
    noise: SeedNoise | None,
) -> Trial:
    if not one.identified:
        return Trial(one, None, None, None, None, None, [], [])
    cell, num_resamples, seed = runs.cell, settings.bootstrap, settings.seed
    enough = len(np.unique(cell)) - len(one.theta) >= FEWEST_FOR_INTERVALS
    generous = strict = None
    if noise:
        residuals, J = one.residuals, one.jacobian
        independent = TreeNoise.independent(noise.sd, len(runs))
        generous = lack_of_fit(residuals, J, cell, independent, noise.sd, noise.degrees_of_freedom)
        if noise.within_tree_sd:
            strict = lack_of_fit(
                residuals,
                J,
                cell,
                noise.of_trees(tree),
                noise.within_tree_sd,
                noise.within_tree_degrees_of_freedom,
            )
    threshold = compute_quantile(runs, settings.holdout_quantile)
    by_trees = enough and enough_clusters(one, tree)
    return Trial(
        fit=one,
        draws=bootstrap(one, cell, num_resamples, seed) if enough else None,
        tree_draws=bootstrap(one, tree, num_resamples, seed, "trees") if by_trees else None,
        lack_of_fit=generous,
        lack_of_fit_in_trees=strict,
        holdout=hold_out(one.form, runs, estimator, threshold, num_resamples, seed, num_starts=settings.num_starts),
        origins=rolling_origin(one.form, runs, estimator, HOLDOUT_RESAMPLES, seed),
        subsets=cutoffs(one, runs.N, runs.D, noise.sd, noise.degrees_of_freedom) if noise else [],
    )
