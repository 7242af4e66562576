"""Normalised loss curves of finished runs, the ladders they form, and how far apart the curves of a group are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from pipeline.experiments.verdict import Estimate
from pipeline.fitting.compare import bic
from pipeline.fitting.estimators import estimator_named
from pipeline.fitting.laws import Chinchilla, Law, QForm
from pipeline.fitting.points import cell_weights
from pipeline.fitting.runs import Runs

FEWEST = 3
"""Sizes that make a ladder."""
LADDER, FIXED_D, FIXED_N, CELL = ("seed", "ladder"), ("seed", "D"), ("seed", "N"), ("N", "D")
"""Groups of runs: of one D/N, of one D, of one size, and alike but for the seed."""
NEAR_END, DEGREE = 0.8, 4
"""The x from which a curve is near its end; the degree of the polynomial in ln tokens that smooths a trunk."""


def fitted_law(points: pl.DataFrame) -> Law | None:
    """The additive or the q-form fitted to the end points, whichever has the lower BIC; None where neither is
    determined with an irreducible loss below every end point."""
    if not len(points):
        return None
    N, D, L = (points[name].to_numpy().astype(float) for name in ("N", "D", "loss"))
    runs = Runs.of(N, D, L, weights=cell_weights(N, D))
    fits = [runs.fitted(form, estimator_named("huber", None)) for form in (Chinchilla, QForm)]
    usable = [fit for fit in fits if fit.identified and fit.law.E < L.min()]
    return min(usable, key=bic).law if usable else None


def self_similar_from(curves: pl.DataFrame) -> float:
    """The tokens t_s from which the course of a run is the same function of x for all D: warm-up is over and, where the
    batch grows at all, it has begun to grow. To a row of the curves."""
    longest = curves.filter(pl.col("run_id") == curves.sort("tokens", "run_id")["run_id"][-1]).sort("tokens")
    rate, batch = longest["learning_rate_scale"], longest["batch_tokens"]
    warm = longest["tokens"][: rate.arg_max()].max() or 0
    flat = longest["tokens"].filter(batch == batch[0]).max() if batch.max() > batch[0] else 0
    return float(max(warm, flat))


def window_difficulty(runs: pl.DataFrame, curves: pl.DataFrame, after: float) -> dict[int, tuple]:
    """seed -> (tokens, integral up to there of ln(loss on the windows read / loss on typical ones)).

    All sizes of a seed read the same windows at the same tokens. Where the rate is constant, `after` the transient at
    the start, each size's ln loss is compared with a polynomial of its own in ln tokens, and what is left is averaged
    over sizes. Zero elsewhere.
    """
    longest = runs.filter(pl.col("kind") != "cooldown").sort("D", "run_id").group_by("seed", "width").last()
    rows = curves.sort("run_id", "tokens").with_columns(before=pl.col("tokens").shift(1, fill_value=0).over("run_id"))
    steady = rows.filter(pl.col("learning_rate_scale") >= 1, pl.col("before") >= after)
    smoothed = [
        trunk.select("seed", "before", "tokens", hard=pl.Series(_residual(trunk["tokens"], trunk["train_loss"])))
        for _, trunk in steady.join(longest.select("run_id", "seed"), on="run_id").group_by("run_id")
        if len(trunk) > 3 * DEGREE
    ]
    if not smoothed:
        return {}
    shared = pl.concat(smoothed).group_by("seed", "before", "tokens").agg(pl.col("hard").mean(), pl.len())
    found = {}
    for (seed,), part in shared.filter(pl.col("len") > 1).sort("seed", "tokens").group_by("seed", maintain_order=True):
        whole = (part["hard"] * (part["tokens"] - part["before"])).cum_sum()
        found[seed] = np.r_[part["before"][0], part["tokens"]], np.r_[0.0, whole]
    return found


def _residual(tokens: pl.Series, loss: pl.Series) -> np.ndarray:
    x, y = np.log(tokens.to_numpy()), np.log(loss.to_numpy())
    return y - np.polynomial.Polynomial.fit(x, y, DEGREE)(x)


def normalised(
    num_bins: int, law: Law, points: pl.DataFrame, difficulty: dict[int, tuple], curves: pl.DataFrame
) -> pl.DataFrame:
    """One row a run and bin of x: `loss`, the mean training loss on windows as hard as the validation windows;
    `reducible` ln (L - E); `collapsed` ln l; `predicted` ln l of the fitted law; beside the run's run_id, label, seed,
    width, N, D and `end`, its validation loss."""
    edges, by_run = np.linspace(0, 1, num_bins + 1), curves.sort("tokens").partition_by("run_id", as_dict=True)
    parts, ends = [], []
    for point in points.iter_rows(named=True):
        own, N, D = by_run[(point["run_id"],)], point["N"], point["D"]
        tokens = np.r_[0, own["tokens"]].astype(float)
        hard = np.interp(tokens, *difficulty.get(point["seed"], ([0.0], [0.0])))
        loss = own["train_loss"].to_numpy() * np.exp(-np.diff(hard) / np.diff(tokens))
        total = np.interp(edges * D, tokens, np.r_[0.0, np.cumsum(loss * np.diff(tokens))])
        middle, x = (tokens[1:] + tokens[:-1]) / 2 / D, (edges[1:] + edges[:-1]) / 2
        at_row, at_bin = (
            np.log(law.loss(N, where * D) - law.E) - np.log(law.loss(N, D) - law.E) for where in (middle, x)
        )
        expected = law.E + np.exp(at_row) * (point["loss"] - law.E)
        near = middle > NEAR_END
        ends.append(np.c_[own["learning_rate_scale"].to_numpy(), np.log(loss / expected)][near])
        facts = {name: point[name] for name in ("run_id", "seed", "width", "N", "D")} | {"end": point["loss"]}
        facts["label"] = f"width {point['width']} at {D / 1e3:,.0f}k tokens"
        bins = pl.DataFrame({"x": x, "loss": np.diff(total) / np.diff(edges * D), "predicted": at_bin})
        parts.append(bins.with_columns(**{name: pl.lit(value) for name, value in facts.items()}))
    rows = pl.concat(parts).with_columns(pl.col("loss") / np.exp(_at_rate_zero(np.concatenate(ends))))
    rows = rows.with_columns(reducible=(pl.col("loss") - law.E).log())
    return rows.with_columns(collapsed=pl.col("reducible") - (pl.col("end") - law.E).log())


def _at_rate_zero(ends: np.ndarray) -> float:
    """How much harder training windows are than validation windows, in ln loss: the second column of `ends`, ln loss
    over what the law expects, where the first, the rate, comes to zero."""
    rate, harder = ends.T
    return float(np.polynomial.Polynomial.fit(rate, harder, 1)(0.0)) if np.ptp(rate) > 0 else float(harder.mean())


def ladders(points: pl.DataFrame, same_ratio: float, shortest: float) -> pl.DataFrame:
    """run_id and `ladder`, the least D/N of its ladder: values within `same_ratio`, one run a size, at least FEWEST
    sizes of `shortest` tokens or more; null for a run in no ladder."""
    ratios, first = (points["D"] / points["N"]).to_numpy(), -np.inf
    starts = np.empty(len(points))
    for index in np.argsort(ratios, kind="stable"):
        first = first if ratios[index] <= first * same_ratio * (1 + 1e-9) else ratios[index]
        starts[index] = first
    named = points.select("run_id", "seed", "N", "D", ladder=starts).sort("D")
    alone = pl.col("D").rank("ordinal").over("seed", "ladder", "N") == 1
    long = (alone & (pl.col("D") >= shortest)).sum().over("seed", "ladder")
    return named.select("run_id", ladder=pl.when(alone & (long >= FEWEST)).then("ladder"))


def spread(rows: pl.DataFrame, column: str, groups: Sequence[str]) -> pl.DataFrame:
    """x and `sd`, the standard deviation of `column` within `groups` of runs at each x, pooled over groups."""
    parts = rows.group_by(*groups, "x").agg(variance=pl.col(column).var(), freedom=pl.len() - 1.0)
    parts = parts.filter(pl.col("freedom") > 0).sort("x", *groups)
    pooled = (pl.col("variance") * pl.col("freedom")).sum() / pl.col("freedom").sum()
    return parts.group_by("x", maintain_order=True).agg(sd=pooled.sqrt())


def overall_spread(rows: pl.DataFrame, column: str, groups: Sequence[str]) -> float:
    """The root mean square over x of `spread`, NaN where no group has two runs."""
    apart = spread(rows, column, groups)["sd"]
    return float(np.sqrt((apart**2).mean())) if len(apart) else np.nan


def in_noise(rows: pl.DataFrame, groups: tuple[str, str]) -> float:
    """The spread of ln l over the sizes of a group, in units of that of ln (L - E) over seeds."""
    return overall_spread(rows.drop_nulls(groups), "collapsed", groups) / overall_spread(rows, "reducible", CELL)


def follows(rows: pl.DataFrame, groups: tuple[str, str]) -> float:
    """The slope of measured against predicted differences of ln l within a group, at each x."""
    both = rows.select(pl.col("collapsed", "predicted") - pl.col("collapsed", "predicted").mean().over(*groups, "x"))
    return float((both["collapsed"] * both["predicted"]).sum() / (both["predicted"] ** 2).sum())


def departures(compared: pl.DataFrame, noise: float) -> pl.DataFrame:
    """One row a run in a ladder but its longest: `departure`, half the squared distance in ln l from the next longer
    run of the ladder, its root mean over x, in noises."""
    ordered = compared.drop_nulls("ladder").sort("D")
    away = ordered.with_columns(away=pl.col("collapsed") - pl.col("collapsed").shift(-1).over(*LADDER, "x"))
    rms = ((pl.col("away") ** 2).mean() / 2).sqrt() / noise
    return (
        away.drop_nulls("away").group_by("label", "seed", "N", "D", "ladder").agg(departure=rms).sort("D", "N", "seed")
    )


def without_each_size(points: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, Law]]:
    """The end points without one size after another, each with the law fitted to them; those that determine no law are
    left out."""
    for size in points["N"].unique().sort():
        fewer = points.filter(pl.col("N") != size)
        law = fitted_law(fewer)
        if law is not None:
            yield fewer, law


def jackknife(
    statistic: Callable[[pl.DataFrame], float], rows: pl.DataFrame, without: Sequence[pl.DataFrame]
) -> Estimate:
    """`statistic` of all rows, with its standard error from `without`: the rows without one size after another, each
    normalised by the law of the sizes left, so that the error of E counts (Miller 1974, doi 10.1093/biomet/61.1.1)."""
    left = np.array([statistic(fewer) for fewer in without])
    left = left[np.isfinite(left)]
    if len(left) < 2:
        return Estimate(statistic(rows), np.inf)
    error = np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
    return Estimate(statistic(rows), float(error), len(left))
