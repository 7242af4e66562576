"""Tables of the fitted laws: their parameters, how the fits went, and each way of counting parameters."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipeline.experiments.language_model import fit_checks
from pipeline.experiments.language_model.scene import CONVENTIONS, LAW_NAMES, why_refused
from pipeline.reporting.numbers import known, percent, probability, significant, whole
from pipeline.reporting.tables import Cell, Table, bounds, estimate, number, words

PARAMETERS = {
    "E": "E, nats/token",
    "A": "A",
    "alpha": "α",
    "B": "B",
    "beta": "β",
    "q": "q",
}


def law_tables(summary: dict, tables: dict[str, pl.DataFrame]) -> tuple[Table, ...]:
    """The tables of what was fitted, in the order of the page."""
    return (
        parameters(summary),
        fit_checks.compared(summary, tables),
        laws(summary),
        conventions(summary),
        fit_checks.next_runs(summary, tables),
    )


def parameters(summary: dict) -> Table:
    """Every parameter of both laws with its intervals, by resampled cells and by resampled trees."""
    fitted = summary.get("laws") or {}
    rows: list[tuple[Cell, ...]] = []
    groups: list[str] = []
    flat: list[dict] = []
    header = ("parameter", "estimate", "95 %, cells", "s.e.", "95 %, trees", "s.e.", "trees / cells")
    for name in (name for name in LAW_NAMES if name in fitted):
        chosen = ", chosen" if name == summary.get("chosen") else ""
        heading = f"{LAW_NAMES[name]}{chosen}: {fit_checks.status_words(fitted[name].get('status'))}"
        refused = why_refused(summary, name)
        if refused:
            rows.append((words("no value shown"), *(words(None) for _ in header[1:])))
            groups.append(f"{heading}; {refused}")
            flat.append({"law": name, "reason": refused})
            continue
        for key in (key for key in PARAMETERS if key in fitted[name]["params"]):
            value = fitted[name]["params"][key]
            entry = {"law": name, "parameter": key, "value": value}
            cells = [words(PARAMETERS[key]), number(value, significant)]
            for kind, intervals, errors in (
                ("cells", "intervals", "standard_errors"),
                ("trees", "tree_intervals", "tree_standard_errors"),
            ):
                low, high = (fitted[name].get(intervals) or {}).get(key) or (None, None)
                error = (fitted[name].get(errors) or {}).get(key)
                cells += [bounds(low, high), number(error, lambda error: significant(error, 2))]
                entry |= {f"{kind}_low": low, f"{kind}_high": high, f"{kind}_standard_error": error}
            entry["ratio"] = width_ratio(fitted[name], key)
            rows.append((*cells, number(entry["ratio"], lambda ratio: significant(ratio, 2))))
            groups.append(heading)
            flat.append(entry)
    schema = {"law": pl.String, "parameter": pl.String, "value": pl.Float64}
    schema |= {
        f"{kind}_{part}": pl.Float64 for kind in ("cells", "trees") for part in ("low", "high", "standard_error")
    }
    schema |= {"ratio": pl.Float64, "reason": pl.String}
    caption = (
        f"L in nats/token, N in {CONVENTIONS[summary['convention']][1]}, D in tokens. Estimator: "
        f"{summary['estimator']}. 95 % intervals by refits to resampled (N, D) cells, as if they were independent, and "
        "to resampled trees, each a trunk with all its cooldowns; the ratio of the two widths says what the shared "
        "trunks hide. A law that fails its gate shows its reason in place of numbers."
    )
    frame = pl.DataFrame(flat, schema=schema)
    return Table(
        "parameters",
        "The law's parameters",
        caption,
        header,
        tuple(rows),
        frame,
        row_headed=True,
        groups=tuple(groups),
        empty="none: no law was fitted",
    )


def width_ratio(fitted: dict, parameter: str) -> float | None:
    """Width of a parameter's interval by resampled trees over that by cells, None unless both are known."""
    cells, trees = ((fitted.get(kind) or {}).get(parameter) for kind in ("intervals", "tree_intervals"))
    if not (cells and trees and all(known(end) for end in (*cells, *trees))) or cells[1] == cells[0]:
        return None
    return (trees[1] - trees[0]) / (cells[1] - cells[0])


def laws(summary: dict) -> Table:
    """Both laws side by side: residual, lack of fit, hold-out, and how the fit went."""
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

    for key, label in (("rms", "rms residual of ln L"), ("max", "largest residual of ln L")):
        add(label, key, lambda name, key=key: number(of(name, key), percent))
    for key, label, form in (
        ("chi2", "lack of fit, χ²", significant),
        ("degrees_of_freedom", "degrees of freedom", whole),
        ("p", "lack of fit, p", probability),
    ):
        add(label, key, lambda name, key=key, form=form: number(of(name, "lack_of_fit", key), form))
    add("strict lack of fit, p", "p_in_trees", lambda name: number(of(name, "lack_of_fit_in_trees", "p"), probability))
    scores: dict = (summary.get("holdout") or {}).get("laws") or {}
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
    for key, label, form in (
        ("objective", "objective", significant),
        ("delta", "delta of the estimator", significant),
        ("num_resamples", "resamples", whole),
        ("num_resamples_not_converged", "resamples without a flat minimum", whole),
        ("condition_number", "condition number", significant),
    ):
        add(label, key, lambda name, key=key, form=form: number(of(name, key), form))
    add("starts that agree", "start_agreement", lambda name: words(of(name, "start_agreement")))
    add(
        "status",
        "status",
        lambda name: words(fit_checks.status_words(of(name, "status")), note=why_refused(summary, name) or ""),
    )
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
    header = (
        "of the fit",
        *(f"{LAW_NAMES[name]}{' (chosen)' if name == summary.get('chosen') else ''}" for name in names),
    )
    caption = f"How well both laws describe the runs, by the same estimator: {summary['estimator']}."
    noise = summary.get("seed_noise")
    if noise:
        caption += (
            f" Lack of fit is against the noise between seeds, {percent(noise['sd'])} of the loss, itself measured "
            f"with {noise['degrees_of_freedom']} degrees of freedom from {noise['num_cells']} cells, so p is that of "
            "an F test."
        )
    else:
        caption += " There are no replicate seeds, so lack of fit cannot be told from noise."
    return Table("laws", "How the fits went", caption, header, tuple(rows), frame, row_headed=True)


def conventions(summary: dict) -> Table:
    """The chosen law with N counted in each way."""
    keys = [*PARAMETERS, "a", "rms", "holdout_rms"]
    rows, flat = [], []
    for name, entry in (summary.get("conventions") or {}).items():
        entry = entry or {}
        values = {**entry, **(entry.get("params") or {})}
        cells = [number(values.get(key), percent if key.endswith("rms") else significant) for key in keys]
        mark = ", headline" if name == summary["convention"] else ""
        rows.append((words(f"{CONVENTIONS[name][1]}{mark}"), *cells))
        flat.append({"convention": name} | {key: values.get(key) for key in keys})
    frame = pl.DataFrame(flat, schema={"convention": pl.String} | dict.fromkeys(keys, pl.Float64))
    symbols = (PARAMETERS[key].split(",")[0] for key in PARAMETERS)
    header = ("N counts", *symbols, "a", "rms residual", "hold-out rms")
    return Table(
        "conventions",
        "What N counts",
        "The chosen law under each way of counting parameters. A, α, E and the exponent a of N* ∝ Cᵃ move with it.",
        header,
        tuple(rows),
        frame,
        row_headed=True,
    )
