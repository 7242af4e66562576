"""Tables of the language-model study: the laws side by side, hold-out, cut-offs, conventions, isoFLOP, seeds."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipeline.experiments.language_model.scene import CONVENTIONS, LAW_NAMES
from pipeline.reporting.numbers import known, percent, significant, whole
from pipeline.reporting.tables import Cell, Table, estimate, from_frame, number, words

PARAMETERS = {
    "E": "E, nats/token",
    "A": "A",
    "alpha": "α",
    "B": "B",
    "beta": "β",
    "q": "q",
}


def law_tables(summary: dict, tables: dict[str, pl.DataFrame]) -> tuple[Table, ...]:
    """The tables that belong to the fit, in the order of the page."""
    found = [laws(summary), *(build(summary, tables) for build in (_holdout, _cutoffs)), _conventions(summary)]
    found += [_isoflop(summary, tables), _seeds(summary, tables)]
    return tuple(found)


def laws(summary: dict) -> Table:
    """Both laws side by side: parameters with intervals, residual, lack of fit, hold-out, and how the fit went."""
    fitted = summary.get("laws") or {}
    names = [name for name in LAW_NAMES if name in fitted]
    rows: list[tuple[Cell, ...]] = []
    flat: list[dict] = []

    def add(label: str, key: str, cell: Callable[[str], Cell]) -> None:
        cells = [cell(name) for name in names]
        rows.append((words(label), *cells))
        for name, shown in zip(names, cells):
            numbers = [piece.value for piece in shown.pieces if piece.value is not None]
            value, low, high = (*numbers, None, None, None)[:3]
            text = None if numbers else shown.text
            flat.append({"law": name, "quantity": key, "value": value, "low": low, "high": high, "text": text})

    def of(name: str, *path: str):
        found = fitted[name]
        for key in path:
            found = (found or {}).get(key)
        return found

    for key, label in PARAMETERS.items():
        if any(key in (of(name, "params") or {}) for name in names):
            add(label, key, lambda name, key=key: estimate(of(name, "params", key), of(name, "intervals", key)))
    for key, label in PARAMETERS.items():
        if any(key in (of(name, "standard_errors") or {}) for name in names):
            add(
                f"standard error of {label.split(',')[0]}",
                f"standard_error_{key}",
                lambda name, key=key: number(of(name, "standard_errors", key), lambda value: significant(value, 2)),
            )
    for key, label in (("rms", "rms residual of ln L"), ("max", "largest residual of ln L")):
        add(label, key, lambda name, key=key: number(of(name, key), percent))
    add("lack of fit, χ²", "chi2", lambda name: number(of(name, "lack_of_fit", "chi2"), significant))
    add(
        "degrees of freedom",
        "degrees_of_freedom",
        lambda name: number(of(name, "lack_of_fit", "degrees_of_freedom"), whole),
    )
    add("lack of fit, p", "p", lambda name: number(of(name, "lack_of_fit", "p"), lambda value: significant(value, 2)))
    scores = (summary.get("holdout") or {}).get("laws") or {}
    for key, label in (
        ("rms", "hold-out, rms error"),
        ("max", "hold-out, largest error"),
        ("interval_coverage", "hold-out, measured loss inside the 95 % interval"),
    ):
        add(label, f"holdout_{key}", lambda name, key=key: number((scores.get(name) or {}).get(key), percent))
    add("objective", "objective", lambda name: number(of(name, "objective"), significant))
    add("starts that agree", "start_agreement", lambda name: words(of(name, "start_agreement")))
    add("condition number", "condition_number", lambda name: number(of(name, "condition_number"), significant))
    add("status", "status", lambda name: words(_status(of(name, "status"))))
    frame = pl.DataFrame(
        flat,
        schema={
            "law": pl.String,
            "quantity": pl.String,
            "value": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "text": pl.String,
        },
    )
    header = ("", *(f"{LAW_NAMES[name]}{' (chosen)' if name == summary.get('chosen') else ''}" for name in names))
    caption = (
        f"L in nats/token, N in {CONVENTIONS[summary['convention']][1]}, D in tokens. Estimator: {summary['estimator']}. "
        "In brackets 95 % percentile intervals over refits to resampled runs."
    )
    noise = summary.get("seed_noise")
    if noise:
        caption += (
            f" Lack of fit is against the noise between seeds, {percent(noise['sd'])} of the loss "
            f"({noise['degrees_of_freedom']} degrees of freedom, {noise['num_cells']} cells)."
        )
    else:
        caption += " There are no replicate seeds, so lack of fit cannot be told from noise."
    return Table("laws", "The law's parameters", caption, header, tuple(rows), frame, row_headed=True)


def _status(status: str | None) -> str | None:
    return status.replace("_", " ").replace("bound:", "at its bound: ") if status else None


def _holdout(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    frame = tables.get("holdout", pl.DataFrame())
    columns = {
        "run_id": ("run", "words"),
        "N": ("N", "count"),
        "D": ("D", "count"),
        "C": ("C, FLOPs", "flops"),
        "loss": ("measured", "loss"),
    }
    for name, label in LAW_NAMES.items():
        columns |= {
            f"predicted_{name}": (label, "loss"),
            f"low_{name}": ("low", "loss"),
            f"high_{name}": ("high", "loss"),
        }
    holdout = summary.get("holdout") or {}
    caption = "Predicted by laws fitted to the smaller budgets alone, with 95 % intervals; nats/token."
    if known(holdout.get("threshold_C")):
        caption = (
            f"{holdout['num_train']} points up to {significant(holdout['threshold_C'], 3, 1.0)} FLOPs (the "
            f"{significant(100 * holdout['quantile'], 2)} % quantile) fit the laws that predict these {holdout['num_test']}; nats/token."
        )
    return from_frame("holdout", "The hold-out", caption, frame, columns, empty="no hold-out: too few budgets")


def _cutoffs(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    frame = tables.get("cutoffs", pl.DataFrame())
    columns = {
        "law": ("law", "law"),
        "N_min": ("N from", "count"),
        "D_min": ("D from", "count"),
        "num_sizes": ("sizes", "whole"),
        "num_tokens": ("token counts", "whole"),
        "num_points": ("points", "whole"),
        "rms": ("rms residual", "percent"),
        "chi2": ("χ²", "significant"),
        "degrees_of_freedom": ("degrees of freedom", "whole"),
        "p": ("p", "significant"),
    }
    columns["law"] = ("law", "words")
    rule = (summary.get("valid_from") or {}).get("rule")
    caption = "Each law fitted again to the runs from a smallest N and D on."
    caption += f" Rule: {rule.rstrip('.')}." if rule else ""
    return from_frame(
        "cutoffs", "From which scale on", caption, frame, columns, folded=True, empty="too few runs to cut any off"
    )


def _conventions(summary: dict) -> Table:
    keys = [*PARAMETERS, "rms", "holdout_rms"]
    rows, flat = [], []
    for name, entry in (summary.get("conventions") or {}).items():
        entry = entry or {}
        values = {**entry, **(entry.get("params") or {})}
        cells = [number(values.get(key), percent if key.endswith("rms") else significant) for key in keys]
        mark = ", headline" if name == summary["convention"] else ""
        rows.append((words(f"{CONVENTIONS[name][1]}{mark}"), *cells))
        flat.append({"convention": name} | {key: values.get(key) for key in keys})
    frame = pl.DataFrame(flat, schema={"convention": pl.String} | dict.fromkeys(keys, pl.Float64))
    header = ("N counts", *(PARAMETERS[key].split(",")[0] for key in PARAMETERS), "rms residual", "hold-out rms")
    return Table(
        "conventions",
        "What N counts",
        "The chosen law under each way of counting parameters. A, α and E move with it.",
        header,
        tuple(rows),
        frame,
        row_headed=True,
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
        caption += f" ({slopes['num_budgets']} budgets)."
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
