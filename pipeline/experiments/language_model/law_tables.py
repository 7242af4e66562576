"""Tables of the fitted laws: side by side, and under each way of counting parameters."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipeline.experiments.language_model.check_tables import check_tables
from pipeline.experiments.language_model.scene import CONVENTIONS, LAW_NAMES
from pipeline.reporting.numbers import percent, probability, significant, whole
from pipeline.reporting.tables import Cell, Table, estimate, number, words

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
    return laws(summary), *check_tables(summary, tables)[:2], conventions(summary), *check_tables(summary, tables)[2:]


def laws(summary: dict) -> Table:
    """Both laws side by side: parameters with intervals, residual, lack of fit, hold-out, and how the fit went."""
    fitted = summary.get("laws") or {}
    names = [name for name in LAW_NAMES if name in fitted]
    rows: list[tuple[Cell, ...]] = []
    flat: list[dict] = []

    def add(label: str, key: str, cell: Callable[[str], Cell]) -> None:
        cells = [cell(name) for name in names]
        rows.append((words(label), *cells))
        for name, shown in zip(names, cells, strict=True):
            numbers = [piece.value for piece in shown.pieces if piece.value is not None]
            value, low, high = (*numbers, None, None, None)[:3]
            text = None if numbers else shown.text
            flat.append({"law": name, "quantity": key, "value": value, "low": low, "high": high, "text": text})

    def of(name: str, *path: str):
        found = fitted[name]
        for key in path:
            found = (found or {}).get(key)
        return found

    def of_score(name: str, key: str):
        return (scores.get(name) or {}).get(key)

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
    add("lack of fit, p", "p", lambda name: number(of(name, "lack_of_fit", "p"), probability))
    scores: dict = (summary.get("holdout") or {}).get("laws") or {}
    add(
        "strict lack of fit, p",
        "p_in_trees",
        lambda name: number(of(name, "lack_of_fit_in_trees", "p"), probability),
    )
    add(
        "hold-out, rms error",
        "holdout_rms",
        lambda name: estimate(of_score(name, "rms"), of_score(name, "rms_interval"), percent),
    )
    for key, label in (
        ("max", "hold-out, largest error"),
        ("interval_coverage", "hold-out, measured loss inside the 95 % interval"),
    ):
        add(label, f"holdout_{key}", lambda name, key=key: number(of_score(name, key), percent))
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
        f"L in nats/token, N in {CONVENTIONS[summary['convention']][1]}, D in tokens. Estimator: "
        f"{summary['estimator']}. In brackets 95 % percentile intervals over refits to resampled runs."
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


def conventions(summary: dict) -> Table:
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
