"""Everything that is computed from the runs of the language-model study before anything is concluded from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.fitting.cutoffs import Bend, Subset, convex_floor, convexity, cutoffs, largest_accepted
from pipeline.fitting.forms import FLOPS_PER_PARAMETER_TOKEN, FORMS
from pipeline.fitting.frontier import Frontier, compute_grid, frontier
from pipeline.fitting.isoflop import IsoFlop, isoflop
from pipeline.fitting.points import cell_weights, cells
from pipeline.fitting.solver import Fit, fit
from pipeline.fitting.uncertainty import Bootstrap, SeedNoise, bootstrap, seed_noise
from pipeline.fitting.validation import (
    HoldOut,
    LackOfFit,
    hold_out,
    holdout_advantage,
    lack_of_fit,
)
from pipeline.params import Fit as FitSettings

CONVENTIONS = {"total": "N_total", "non_embedding": "N_non_embedding", "with_head": "N_with_head"}
"""Convention of N -> its column of results/runs.parquet."""


@dataclass(frozen=True)
class Trial:
    """One form fitted to all points: the fit, its resamples (None: not identified), both tests, hold-out, cut-offs."""

    fit: Fit
    draws: Bootstrap | None
    lack_of_fit: LackOfFit | None
    lack_of_fit_in_trees: LackOfFit | None
    holdout: HoldOut | None
    subsets: list[Subset]


@dataclass(frozen=True)
class Evidence:
    """All fits of one study. `points` are sorted rows of runs.parquet with N by the headline convention and C = 6 N D.

    `noise_sd` is the relative sd used where noise is needed: between seeds, or, without replicates, the smallest
    residual of a law. `trials` is empty when there is no point at all.
    """

    points: pl.DataFrame
    excluded: pl.DataFrame
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
    tree = points["tree"].to_numpy()
    noise = seed_noise(L, N, D, tree) if len(points) else None
    noise = noise if noise and noise.sd > 0 else None
    fits = (
        {form.name: fit(form, N, D, L, settings.num_starts, cell_weights(N, D)) for form in FORMS}
        if len(points)
        else {}
    )
    usable = [one.rms for one in fits.values() if one.identified]
    noise_sd = noise.sd if noise else min(usable, default=None)
    trials = {name: _trial(settings, one, N, D, L, C, tree, noise, noise_sd) for name, one in fits.items()}
    covariance = noise.covariance(tree) if noise else (noise_sd or 0.0) ** 2 * np.eye(len(points))
    chosen, because = choose(trials, covariance)
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
    if trial and trial.draws:
        best = frontier(trial.fit.law, trial.draws, compute_grid(C))
    return Evidence(points, excluded, noise, noise_sd, trials, chosen, because, bends, floors, valid, iso, best)


def choose(trials: dict[str, Trial], covariance: NDArray) -> tuple[str, str]:
    """(name of the law, one sentence that says why): the hold-out decides, lack of fit breaks a tie.

    A tie is a difference of less than two sd of what noise with `covariance` between the runs' ln L makes of it.
    """
    known = {name: trial for name, trial in trials.items() if trial.fit.identified}
    if not known:
        return FORMS[0].name, "Neither law is identified by these runs, so there is nothing to choose between."
    if len(known) == 1:
        (name,) = known
        (other,) = set(trials) - {name}
        return name, f"Only {name} is identified by these runs ({other}: {trials[other].fit.reason})."
    first, second = (known[form.name] for form in FORMS)
    simple, rich = (form.name for form in FORMS)
    if first.holdout is None or second.holdout is None:
        return _tied(
            known, "The runs below the compute threshold do not identify both laws, so no hold-out compares them"
        )
    rms = f"{100 * first.holdout.rms:.2f} % for {simple} and {100 * second.holdout.rms:.2f} % for {rich}"
    difference, error = holdout_advantage(first.holdout, second.holdout, covariance)
    if abs(difference) <= 2 * error:
        return _tied(known, f"The held-out rms, {rms}, differ by less than twice what noise between seeds can do")
    name = simple if difference < 0 else rich
    return name, f"The hold-out chose {name}: held-out rms {rms}, more than noise between seeds can do."


def _tied(known: dict[str, Trial], because: str) -> tuple[str, str]:
    for form in FORMS:
        test = known[form.name].lack_of_fit
        if test and test.p > 0.05:
            return form.name, f"{because}; {form.name} is the law of fewest parameters that fits (p = {test.p:.2g})."
    if all(trial.lack_of_fit is None for trial in known.values()):
        return FORMS[0].name, f"{because}; {FORMS[0].name} has fewer parameters."
    name = min(known, key=lambda key: known[key].fit.objective)
    return name, f"{because}; no law fits within seed noise and {name} leaves the smaller residual."


def _trial(
    settings: FitSettings,
    one: Fit,
    N: NDArray,
    D: NDArray,
    L: NDArray,
    C: NDArray,
    tree: NDArray,
    noise: SeedNoise | None,
    noise_sd: float | None,
) -> Trial:
    if not one.identified:
        return Trial(one, None, None, None, None, [])
    cell = cells(N, D)
    generous = strict = None
    if noise:
        residuals, J = one.residuals, one.jacobian
        generous = lack_of_fit(residuals, J, cell, noise.sd**2 * np.eye(len(N)), noise.sd)
        if noise.within_tree_sd:
            strict = lack_of_fit(residuals, J, cell, noise.covariance(tree), noise.within_tree_sd)
    return Trial(
        fit=one,
        draws=bootstrap(one, cell, settings.bootstrap, settings.seed),
        lack_of_fit=generous,
        lack_of_fit_in_trees=strict,
        holdout=hold_out(
            one.form,
            N,
            D,
            L,
            C,
            settings.holdout_quantile,
            settings.bootstrap,
            settings.seed,
            settings.num_starts,
            one.points.weights,
        ),
        subsets=cutoffs(one, N, D, noise_sd) if noise else [],
    )
