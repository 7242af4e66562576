"""What the runs of the network say: transfer of the best rate under muP, and where it ends without."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Finding, Regime
from pipeline.experiments.laws.mup_transfer.network import LAYERS, Network
from pipeline.experiments.laws.mup_transfer.valley import Valley, drift, estimate, moves, valley_of
from pipeline.experiments.sweep import crossing, local_slopes, mean_over_seeds, slope_over_seeds, worst
from pipeline.experiments.verdict import Claim, Estimate
from pipeline.reporting.numbers import decimal

YANG = "Yang et al. 2022, arXiv 2203.03466"
FLAT, STEEP = 0.1, 0.7
"""Slopes d ln change / d ln w: at most the first is flat, at least the second is that of the standard rates."""
DRIFT, FALL = 0.25, 0.4
"""Octaves a doubling of width: at most the first is transfer, at least the second is none."""
SHARE, NEAR = 0.3, 1.5
"""The largest regret of muP, in parts of the standard one; the factor within which the end of transfer is located."""
Valleys = dict[str, dict[int, Valley]]
"""By parametrization and width."""


def judge_network(
    dials: Network, runs: pl.DataFrame, curves: pl.DataFrame
) -> tuple[list[Finding], list[str], dict[str, pl.DataFrame]]:
    """(findings, sentences, tables): transfer and its regret, coordinates, controls, and the end without muP."""
    sweeps = runs.filter(kind="transfer").select("run_id", "seed", "parametrization", "width")
    swept = _both_rules(sweeps, dials.widths[0]).join(curves.select("run_id", "log2_rate", "loss"), on="run_id")
    valleys: Valleys = {"mup": {}, "standard": {}}
    for (rule, width), rows in swept.group_by("parametrization", "width"):
        valleys[rule][width] = valley_of(rows, "log2_rate")
    checked = _both_rules(runs.filter(kind="coordinates"), dials.check_widths[0])
    found = valleys["mup"][dials.widths[0]].optimum[0]
    findings = [*_transfer(dials, valleys, found), *_coordinates(dials, checked), _end(dials, valleys, found)]
    swept = swept.with_columns(rate=2.0 ** pl.col("log2_rate"))
    tables = {
        "rates": mean_over_seeds(swept, ["parametrization", "width", "rate"], "loss"),
        "optima": _optima(valleys, found),
        "coordinates": mean_over_seeds(checked, ["parametrization", "width"], *LAYERS),
    }
    says = (
        f"On the network of widths {', '.join(map(str, dials.widths))} the best rates are {_listed(valleys['mup'])} "
        f"under muP and {_listed(valleys['standard'])} with one rate for all. From width to width they move by "
        f"{moves(valleys['mup'])} and by {moves(valleys['standard'])} octaves a doubling."
    )
    return findings, [says], tables


def _both_rules(runs: pl.DataFrame, base: int) -> pl.DataFrame:
    """The runs, those of the base width once for each parametrization."""
    return pl.concat([runs, runs.filter(width=base).with_columns(parametrization=pl.lit("standard"))])


def _listed(valleys: dict[int, Valley]) -> str:
    best = [valleys[width].optimum[0] for width in sorted(valleys)]
    return ", ".join(f"2^{one:.2f}" if np.isfinite(one) else "at an edge" for one in best)


def _optima(valleys: Valleys, found: float) -> pl.DataFrame:
    """One row a parametrization and width: the best rate, and the regret of the one found at the base width."""
    rows = []
    for rule, width, valley in ((rule, width, own[width]) for rule, own in valleys.items() for width in sorted(own)):
        best, regret = estimate(valley.optimum), estimate(valley.regret(found))
        rows.append((rule, width, best.value, best.error, regret.value, regret.error))
    columns = {"parametrization": pl.String, "width": pl.Int64}
    columns |= dict.fromkeys(("log2_optimum", "log2_optimum_se", "regret", "regret_se"), pl.Float64)
    return pl.DataFrame(rows, schema=columns, orient="row")


def _transfer(dials: Network, valleys: Valleys, found: float) -> list[Finding]:
    mup, standard, base, (low, high) = valleys["mup"], valleys["standard"], dials.widths[0], dials.widths[-2:]
    formula, unit = "d log2 eta* / d log2 w = 0", "octaves a doubling"
    transfers = Claim("the best rate transfers", formula, YANG, unit, figure="mup_transfer_mup")
    cheap = Claim("regret of the transferred rate", "regret(muP) <= 0.3 regret(one rate for all)", YANG, "ratio",
                  figure="mup_transfer_mup")  # fmt: skip
    wanders = Claim("the best rate transfers, one rate for all", formula, YANG, unit, role="control",
                    figure="mup_transfer_standard")  # fmt: skip
    moved, fallen = estimate(drift(mup)), estimate(-drift(standard))
    share = estimate(mup[high].regret(found) / standard[high].regret(found))
    ends = f"from width {low} to {high}"
    costs = {rule: f"{100 * valleys[rule][high].regret(found)[0]:.2g} %" for rule in valleys}
    says = f"Under muP the best rate moves by {_said(moved)} {ends}; from width to width it is {moves(mup)}."
    saves = f"At width {high} the rate found at width {base} costs {costs['mup']} of the loss under muP, " \
            f"{costs['standard']} with one rate for all."  # fmt: skip
    falls = f"With one rate for all matrices the best one falls by {_said(fallen)} {ends}; theory says 1, and more " \
            f"than {FALL} is no transfer."  # fmt: skip
    known = {rule: own[low].bracketed and own[high].bracketed for rule, own in valleys.items()}
    whole = all(known.values()) and mup[base].bracketed
    if not whole:
        saves = "A lowest loss lies at the edge of a sweep, so that there is no regret to compare."
    return [
        transfers.equals(moved, 0.0, DRIFT, says, [Regime("width", "", low, high)], known["mup"]),
        cheap.at_most(share, SHARE, saves, [Regime("width", "", base, high)], whole),
        wanders.at_most(fallen, FALL, falls, reached=known["standard"]),
    ]


def _said(estimated: Estimate) -> str:
    if estimated.value is None:
        return "an amount that the sweeps do not show"
    return f"{estimated.value:.2f} ± {estimated.error:.2f} octaves a doubling"


def _coordinates(dials: Network, runs: pl.DataFrame) -> list[Finding]:
    slopes = {
        rule: [slope_over_seeds(runs.filter(parametrization=rule), "width", layer) for layer in LAYERS]
        for rule in ("mup", "standard")
    }
    formula, unit, figure = "d ln |change of a layer| / d ln w = 0", "slope", "mup_transfer_coordinates"
    flat = Claim("coordinate check", formula, YANG, unit, figure=figure)
    steep = Claim("coordinate check, one rate for all", formula, YANG, unit, role="control", figure=figure)
    says = {
        rule: f"what {dials.check_steps} steps change in the three layers goes as w to the "
        + ", ".join(decimal(slope.value, 2) for slope in own)
        for rule, own in slopes.items()
    }
    means = mean_over_seeds(runs.filter(parametrization="mup"), "width", *LAYERS)
    seen = [Regime("width", "", dials.check_widths[0], dials.check_widths[-1])]

    def judged(layer: str, slope: Estimate) -> Finding:
        lower, upper = (decimal(half, 2) for half in local_slopes(means["width"], means[layer]))
        halves = f"of the {layer.replace('_', ' ')} {lower} over the narrower half, {upper} over the wider"
        return flat.equals(slope, 0.0, FLAT, f"Under muP {says['mup']}; {halves}.", seen)

    return [
        worst(judged(layer, slope) for layer, slope in zip(LAYERS, slopes["mup"], strict=True)),
        steep.at_most(slopes["standard"][-1], STEEP, f"With one rate for all matrices {says['standard']}; of the "
                      f"output theory says 1, and more than {STEEP} is steep."),
    ]  # fmt: skip


def _end(dials: Network, valleys: Valleys, found: float) -> Finding:
    """Where one rate for all comes to cost `missed`, predicted by rates that are too high at the base width."""
    standard, narrow = valleys["standard"], dials.widths[0]
    claim = Claim("end of transfer, one rate for all", "w = F w0 where regret(F eta*) at w0 is the stated one",
                  "derived here", "width", role="boundary", figure="mup_transfer_standard")  # fmt: skip
    base, cost = standard[narrow], f"{100 * dials.missed:g} % of the loss"
    higher = [exponent for exponent in base.exponents if exponent > found]
    factors = [1.0, *(2.0 ** (exponent - found) for exponent in higher)]
    factor, _ = crossing(factors, [0.0, *(base.regret(exponent)[0] for exponent in higher)], dials.missed)
    if factor is None:
        says = f"The sweep at width {narrow} does not show the rate that costs {cost}, so that no end is predicted."
        return claim.located([], None, narrow * factors[-1], NEAR, says)
    regrets = [0.0, *(standard[width].regret(found)[0] for width in dials.widths[1:])]
    place, bracket = crossing(dials.widths, regrets, dials.missed)
    says = f"At width {narrow} a rate {factor:.2g} times too high costs {cost}, so one rate for all should serve " \
           f"up to width {factor * narrow:.0f}; it costs that "  # fmt: skip
    says += "at none of the widths." if place is None else f"at width {place:.0f}."
    low, high = bracket or (dials.widths[-1], None)
    regime = [Regime("width, one rate for all", "", narrow, low, high, factor * narrow)]
    return claim.located([place], bracket, factor * narrow, NEAR, says, regime)
