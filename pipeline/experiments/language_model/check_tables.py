"""Tables that put the fit to the test: hold-out, cut-offs, isoFLOP minima, seeds, every point, local exponents."""

from __future__ import annotations

import polars as pl

from pipeline.experiments.language_model import fit_checks
from pipeline.experiments.language_model.scene import LAW_NAMES, plain_words
from pipeline.reporting.numbers import count, decimal, known, percent, significant
from pipeline.reporting.tables import FORMS, MOST_ROWS, Cell, Table, estimate, from_frame, number, words


def check_tables(summary: dict, tables: dict[str, pl.DataFrame]) -> tuple[Table, ...]:
    """The tables in the order of the page, the hold-outs first."""
    builders = (
        _holdout,
        fit_checks.rolling,
        fit_checks.scales_left_out,
        fit_checks.approaches,
        fit_checks.influence,
        _cutoffs,
        _isoflop,
        _seeds,
        _points,
        _convexity,
    )
    return tuple(build(summary, tables) for build in builders)


def _holdout(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    frame = tables.get("holdout", pl.DataFrame())
    laws = [name for name in LAW_NAMES if f"predicted_{name}" in frame.columns]
    rows = tuple(
        (
            words(row["run_id"]),
            number(row["N"], count),
            number(row["D"], count),
            number(row["C"], FORMS["flops"]),
            number(row["loss"], FORMS["loss"]),
            *(_prediction(row, name) for name in laws),
        )
        for row in frame.head(MOST_ROWS).iter_rows(named=True)
    )
    holdout = summary.get("holdout") or {}
    caption = "Predicted by laws fitted to the smaller budgets alone, with 95 % intervals; nats/token."
    if known(holdout.get("threshold_C")):
        caption = (
            f"{holdout['num_train']} points up to {significant(holdout['threshold_C'], 3, 1.0)} FLOPs (the "
            f"{significant(100 * holdout['quantile'], 2)} % quantile) fit the laws that predict these "
            f"{holdout['num_test']}, with 95 % prediction intervals; nats/token."
        )
    header = ("run", "N", "D", "C, FLOPs", "measured", *(LAW_NAMES[name] for name in laws))
    return Table(
        "holdout",
        "The hold-out",
        caption,
        header,
        rows,
        frame,
        empty="no hold-out: too few budgets",
        left_out=len(frame) - len(rows),
    )


def _prediction(row: dict, name: str) -> Cell:
    bounds = (row.get(f"low_{name}"), row.get(f"high_{name}"))
    return estimate(row[f"predicted_{name}"], bounds, lambda value: decimal(value, 3))


def _cutoffs(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    frame = tables.get("cutoffs", pl.DataFrame())
    columns = {
        "law": ("law", "words"),
        "N_min": ("N from", "count"),
        "D_min": ("D from", "count"),
        "num_sizes": ("sizes", "whole"),
        "num_tokens": ("token counts", "whole"),
        "num_points": ("points", "whole"),
        "rms": ("rms residual", "percent"),
        "chi2": ("χ²", "significant"),
        "degrees_of_freedom": ("degrees of freedom", "whole"),
        "p": ("p", "probability"),
    }
    rule = (summary.get("valid_from") or {}).get("rule")
    caption = "Each law fitted again to the runs from a smallest N and D on."
    caption += f" {plain_words(rule)}" if rule else ""
    return from_frame(
        "cutoffs",
        "From which scale on",
        caption,
        frame,
        columns,
        folded=True,
        empty="too few runs to cut any off",
    )


def _isoflop(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    frame = tables.get("isoflop", pl.DataFrame())
    shown = frame
    if {"C", "N_star", "status", "reason"} <= set(frame.columns):
        shown = frame.unique("C", maintain_order=True).select("C", "N_star", "status", "reason")
    columns = {
        "C": ("C, FLOPs", "flops"),
        "N_star": ("N at the minimum", "count"),
        "status": ("status", "words"),
        "reason": ("why refused", "words"),
    }
    slopes = summary.get("isoflop") or {}
    caption = "One row a budget."
    if known(slopes.get("exponent_a")):
        low, high = slopes.get("interval") or (None, None)
        caption += f" N at the minima grows as C to the power {significant(slopes['exponent_a'])}"
        caption += f" [{significant(low)}, {significant(high)}]" if known(low) else ""
        caption += (
            f" ({slopes['num_budgets'] - len(slopes['refused'])} of {slopes['num_budgets']} budgets have a minimum)."
        )
    return from_frame(
        "isoflop_minima",
        "IsoFLOP minima",
        caption,
        shown,
        columns,
        folded=True,
        empty="no budget could be interpolated",
    )


def _seeds(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    noise = summary.get("seed_noise")
    caption = "Standard deviation of ln L between seeds at the same size and token count."
    if noise:
        caption += f" Pooled: {percent(noise['sd'])} ({noise['method']})."
    columns = {
        "width": ("width", "whole"),
        "D": ("D, tokens", "count"),
        "num_seeds": ("seeds", "whole"),
        "sd_ln_loss": ("sd of ln L", "percent"),
    }
    return from_frame(
        "seed_noise",
        "Noise between seeds",
        caption,
        tables.get("seeds", pl.DataFrame()),
        columns,
        folded=True,
        empty="none: no size and token count was trained with two seeds",
    )


def _points(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    columns = {
        "run_id": ("run", "words"),
        "N": ("N", "count"),
        "D": ("D", "count"),
        "seed": ("seed", "whole"),
        "loss": ("measured", "loss"),
    }
    for name, label in LAW_NAMES.items():
        columns |= {f"predicted_{name}": (label, "loss"), f"residual_{name}": ("residual", "percent")}
    caption = "Every point of the law: measured loss, both laws, and ln(measured / law); nats/token."
    frame = tables.get("points", pl.DataFrame())
    return from_frame(
        "points",
        "Measured and fitted",
        caption,
        frame,
        columns,
        folded=True,
        empty="no run has a loss",
    )


def _convexity(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    columns = {
        "variable": ("along", "words"),
        "fixed": ("at the fixed other", "count"),
        "low": ("from", "count"),
        "middle": ("over", "count"),
        "high": ("to", "count"),
        "exponent_below": ("exponent below", "significant"),
        "exponent_above": ("exponent above", "significant"),
        "z": ("z", "significant"),
    }
    caption = (
        "The local exponent −d ln L / d ln N (or D) must fall with scale; where it rises by more than noise (z > 2), "
        "the smaller scale does not obey such a law."
    )
    frame = tables.get("convexity", pl.DataFrame())
    return from_frame("convexity", "Local exponents", caption, frame, columns, folded=True, empty="too few scales")
