"""A fitted table of runs from elsewhere as a page shows it: in the report of a study, and on a page of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.fitting.laws import LAWS
from pipeline.reporting.chapter import Figure
from pipeline.reporting.fitted_figures import figures_of
from pipeline.reporting.numbers import as_given, decimal, percent, significant
from pipeline.reporting.tables import Cell, Table, bounds, estimate, from_frame, number, of_facts, words

PUBLISHED = {
    "quantity": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "published": pl.Float64,
    "published_low": pl.Float64,
    "published_high": pl.Float64,
    "difference": pl.Float64,
    "standard_errors": pl.Float64,
}
RUNS = {
    "N": ("N", "count"),
    "D": ("D, tokens", "count"),
    "C": ("C, FLOPs", "flops"),
    "L": ("L, nats/token", "loss"),
    "predicted": ("law", "loss"),
    "residual": ("residual of ln L", "fine_percent"),
}
HOLDOUT = {
    "threshold": ("fitted to C up to", "flops"),
    "num_train": ("runs", "whole"),
    "num_test": ("tested", "whole"),
    "until": ("up to C", "flops"),
    "rms": ("rms error", "percent"),
    "bias": ("bias", "percent"),
    "coverage": ("in their 95 % interval", "percent"),
}
MINIMA = {
    "C": ("C, FLOPs", "flops"),
    "num_sizes": ("sizes", "whole"),
    "params": ("N*", "count"),
    "tokens": ("D*, tokens", "count"),
    "tokens_per_parameter": ("D* / N*", "significant"),
    "reason": ("refused because", "words"),
}


@dataclass(frozen=True)
class FittedTable:
    """What the page shows of one table: its `name`, words, figures and tables."""

    name: str
    says: tuple[str, ...]
    figures: Sequence[Figure]
    tables: tuple[Table, ...]


def fitted_table(name: str, source: str, result: dict[str, Any], points: pl.DataFrame) -> FittedTable:
    """The page's part of a fit: `result` as fit_table or findings.json has it, `points` one row a run."""
    prefix = "external_" + re.sub(r"\W", "_", name)
    tables = [_law(prefix, result)]
    if result["published"]:
        tables.insert(0, _published(prefix, result["published"]))
    if result["minima"] is not None:
        frame = pl.DataFrame(result["minima"], infer_schema_length=None)
        said = "The size of least loss on each budget, by Akima interpolation; budgets without one have a reason."
        tables.append(from_frame(f"{prefix}_minima", "isoFLOP minima", said, frame, MINIMA))
    elif result["holdout"]["rolling"]:
        frame = pl.DataFrame(result["holdout"]["rolling"], infer_schema_length=None)
        said = "Fitted to the runs below a budget, tested on those above it, nearest first."
        tables.append(from_frame(f"{prefix}_holdout", "Hold-out", said, frame, HOLDOUT))
    warned = [(one["name"].replace("_", " "), one["text"]) for one in result["warnings"]]
    tables.append(of_facts(f"{prefix}_warnings", "Warnings", "What these runs leave open.", warned))
    said = f"External runs: {source}."
    tables.append(from_frame(f"{prefix}_runs", "Runs", said, points, RUNS, folded=len(points) > 12))
    return FittedTable(name, _says(source, result), figures_of(prefix, result, points), tuple(tables))


def _says(source: str, result: dict[str, Any]) -> tuple[str, ...]:
    dropped = result["num_rows"] - result["num_runs"]
    runs = f"{result['num_runs']} runs from {source}"
    notes = [*result["notes"], *([f"{dropped} copies left out"] if dropped else [])]
    first = f"{runs} ({'; '.join(notes)})." if notes else f"{runs}."
    law = f"{result['law']}: {result['formula']} ({result['source']}). {result['estimator']}."
    if not result["answered"]:
        return first, f"{law} Refused ({result['status']}), so no parameter is shown: {result['reason']}."
    says = [first, law]
    frontier = result["frontier"]
    if frontier and frontier["a"] is not None:
        ends = frontier["a_interval"]
        told = f" (95 % interval {significant(ends[0])} to {significant(ends[1])})" if ends else ""
        says.append(f"Compute-optimal size grows as C to the power {significant(frontier['a'], 4)}{told}.")
    if result["minima"] is None:
        says.append(f"Residuals of {percent(result['rms'])} rms.")
    return tuple(says)


def _law(prefix: str, result: dict[str, Any]) -> Table:
    """Parameters, then the exponents of the frontier and, where recipes are compared, the compute multiplier: by the
    clusters that were named, else by cells."""
    form = LAWS.get(result["law"])
    errors, ends = (result.get(f"cluster_{name}") or result[name] for name in ("standard_errors", "intervals"))
    found: dict[str, tuple] = {
        name: (result["params"][name], errors[name], ends[name]) for name in (form.parameters() if form else ())
    }
    for part, names in ((result["frontier"], "ab"), (result["recipes"], ("compute_multiplier",))):
        for name in names if part else ():
            if part.get(name) is not None:
                label = f"exponent {name}" if part is result["frontier"] else name.replace("_", " ")
                error = part.get(f"{'a' if name == 'b' else name}_error")
                found[label] = (part[name], error, part[f"{name}_interval"])
    rows, flat = [], []
    for name, (value, error, interval) in found.items():
        rows.append((words(name), estimate(value, interval), number(error, significant)))
        low, high = interval or (None, None)
        flat.append((name, value, error, low, high))
    kinds = dict.fromkeys(("value", "standard_error", "low", "high"), pl.Float64)
    frame = pl.DataFrame(flat, schema={"quantity": pl.String} | kinds, orient="row")
    method = (result.get("resampled") or {}).get("frontier") or (result["frontier"] or {}).get("method")
    method = method or "no intervals"
    said = f"N* ~ C^a and D* ~ C^b on C = 6 N D. {method[0].upper()}{method[1:]}."
    header = ("quantity", "value [95 % interval]", "standard error")
    return Table(f"{prefix}_law", "The law", said, header, tuple(rows), frame, row_headed=True)


def _published(prefix: str, found: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    flat = []
    for one in found["rows"]:
        ends, theirs = one["interval"] or (None, None), one["published_interval"] or (None, None)
        apart = one["standard_errors"]
        rows.append(
            (
                words(one["name"]),
                estimate(one["value"], one["interval"], lambda value: significant(value, 5)),
                number(one["published"], as_given),
                bounds(*theirs, as_given),
                number(one["difference"], lambda value: significant(value, 2)),
                number(apart, lambda value: decimal(value, 2)),
            )
        )
        flat.append((one["name"], one["value"], *ends, one["published"], *theirs, one["difference"], apart))
    frame = pl.DataFrame(flat, schema=PUBLISHED, orient="row")
    said = f"Published: {found['source']}. The difference is ours less theirs, and in standard errors of ours."
    header = ("quantity", "ours [95 % interval]", "published", "its interval", "difference", "in standard errors")
    title = "Published numbers beside ours"
    return Table(f"{prefix}_published", title, said, header, tuple(rows), frame, row_headed=True)
