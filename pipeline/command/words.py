"""What `study fit` and `study predict` print, from the same values that they write as JSON."""

from __future__ import annotations

import json
import math
import os
from itertools import zip_longest
from pathlib import Path
from typing import Any

STATES = {None: "not trained yet", "partial": "in progress"}
"""What the store says of a run that has no record, for people."""
UNITS = {"N": "parameters", "D": "tokens", "C": "FLOPs"}


def write_json(path: str, value: Any) -> None:
    """Writes `value` to `path` as JSON with sorted keys, all of it or nothing."""
    target = Path(path)
    content = json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n"
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def fit_text(result: dict[str, Any]) -> str:
    """The printed report of a fit; of a refused one the refusal comes first and no parameter at all."""
    parts = []
    if not result["answered"]:
        parts.append(f"REFUSED ({result['status']}): no parameter of the {result['law']} law can be given.")
        parts[-1] += f"\n{result['reason']}"
    parts.append(_head(result))
    if result["answered"]:
        parts.append(_parameters(result))
        parts.append(_frontier(result["frontier"]))
    parts.append(_recipes(result["recipes"]))
    parts.append(_compared(result.get("compared")))
    parts.append(_held_out(result["holdout"]))
    parts.append("\n".join(f"{one['name']}: {one['text']}" for one in result["warnings"]))
    return "\n\n".join(part for part in parts if part)


def _compared(rows: list[dict[str, Any]] | None) -> str:
    """Laws side by side, the chosen one marked."""
    if not rows:
        return ""
    head = ["laws side by side", "parameters", "rms", "BIC", "held-out rms", "largest run"]
    cells = [
        [
            f"{row['law']}{' (chosen)' if row['chosen'] else ''}",
            str(row["num_parameters"]),
            _percent(row["rms"]),
            figure(row["bic"], 5),
            _percent(row["holdout_rms"]),
            _percent(row["largest_run_error"]),
        ]
        for row in rows
    ]
    why = "chosen by rolling hold-out: of fewest parameters within one standard error of the least rms"
    return f"{aligned([head, *cells])}\n{why}"


def predict_text(result: dict[str, Any]) -> str:
    """The printed prediction."""
    rows = [("law", f"{result['law']}, from {result['source']}")]
    beyond = f"{figure(result['extrapolation'], 3)} times the largest measured"
    rows.append(("compute", f"{figure(result['flops'], 4)} FLOPs, {beyond}"))
    for name in ("params", "tokens", "tokens_per_parameter"):
        if result[name] is not None:
            ends = result.get(f"{name}_interval")
            rows.append((name.replace("_", " "), figure(result[name]) + (f" {between(ends)}" if ends else "")))
    rows.append(("loss", f"{figure(result['loss'], 5)} {between(result['interval'])} (95 % interval of the law)"))
    rows.append(("", f"{between(result['prediction_interval'])} (95 % prediction interval of a run)"))
    if result["flat_params"]:
        rows.append(("flat range", f"{between(result['flat_params'])} parameters lose at most 0.1 %"))
    if result["serving"]:
        one = result["serving"]
        costs = f"{figure(one['flops_train'], 3)} FLOPs to train and {figure(one['flops_serve'], 3)} to serve"
        rows.append(
            (
                "serving",
                f"for {figure(one['served_tokens'], 3)} tokens served the cheapest model of this loss has "
                f"{figure(one['params'])} parameters and {figure(one['tokens'])} training tokens: {costs}",
            )
        )
    return "\n".join([listed(rows), *(f"{one['name']}: {one['text']}" for one in result["warnings"])])


def figure(value: float | None, digits: int = 4) -> str:
    """`value` to significant digits, as a power of ten from a million on; a dash for none."""
    if value is None:
        return "-"
    rounded = f"{value:.{digits}g}"
    return f"{float(rounded):.10g}" if abs(value) < 1e6 else rounded


def between(ends: list[float] | None, digits: int = 3) -> str:
    """An interval, to so many digits or as many more as two digits of its width need; a dash for none."""
    if ends is None or None in ends:
        return "-"
    width, size = ends[1] - ends[0], max(map(abs, ends))
    needed = math.ceil(math.log10(size / width)) + 2 if width > 0 else digits
    return f"[{figure(ends[0], max(digits, needed))}, {figure(ends[1], max(digits, needed))}]"


def aligned(rows: list[list[str]], indent: str = "") -> str:
    """Rows of cells as columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)),
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def listed(rows: list[tuple[str, str]]) -> str:
    """Names and what stands beside them, in two columns to the left."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows)


def _head(result: dict[str, Any]) -> str:
    dropped = result["num_rows"] - result["num_runs"]
    spans = [
        f"{name} {figure(low, 3)} to {figure(high, 3)} {UNITS[name]}" for name, (low, high) in result["span"].items()
    ]
    rows = [
        (
            "table",
            f"{result['table']}: {result['num_runs']} runs" + (f" ({dropped} copies left out)" if dropped else ""),
        ),
        ("span", ", ".join(spans)),
        ("law", f"{result['law']}: {result['formula']}"),
        ("source", result["source"]),
        ("estimator", result["estimator"]),
    ]
    if result["answered"]:
        rows.append(("objective", figure(result["objective"], 10)))
    agreement = f"{result['start_agreement']} starts agree, condition number {figure(result['condition_number'], 2)}"
    rows.append(("status", f"{result['status']}; {agreement}"))
    residuals = f"rms {_percent(result['rms'])} of L"
    if result["noise_sd"] is not None:
        residuals += f", noise sd {_percent(result['noise_sd'])}"
    return listed([*rows, ("residuals", residuals)])


def _parameters(result: dict[str, Any]) -> str:
    clustered = result["cluster_intervals"]
    rows = [["parameter", "value", "std. error", "95 % interval"] + (["by cluster"] if clustered else [])]
    for name, value in result["params"].items():
        row = [name, figure(value, 7), figure(result["standard_errors"][name]), between(result["intervals"][name])]
        rows.append(row + ([between(clustered[name])] if clustered else []))
    methods = [f"intervals: {method}" for method in result["resampling"]] or ["no intervals: no resamples"]
    return "\n".join([aligned(rows), *methods])


def _frontier(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    lines = []
    if found["a"] is not None:
        exponents = (f"{key} = {figure(found[key])} {between(found[f'{key}_interval'])}" for key in "ab")
        lines.append("compute-optimal: N* ~ C^a, D* ~ C^b with " + ", ".join(exponents))
    lines.append(
        f"on {figure(found['C'], 3)} FLOPs: N* = {figure(found['params'], 3)} {between(found['params_interval'])}, "
        f"D* = {figure(found['tokens'], 3)}, {figure(found['tokens_per_parameter'], 3)} tokens a parameter"
    )
    return "\n".join(lines)


def _recipes(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    text = f"recipes: z = 0 is {found['first']}, z = 1 is {found['second']}"
    if found["compute_multiplier"] is not None:
        text += (
            f"\ncompute multiplier m_N m_D = {figure(found['compute_multiplier'])} "
            f"{between(found['compute_multiplier_interval'])}: {found['first']} needs so many times the compute of "
            f"{found['second']}"
        )
    return text


def _held_out(found: dict[str, Any]) -> str:
    origins = [("rolling", one) for one in found["rolling"]]
    if found["split"]:
        origins.append((f"above the {figure(found['split']['quantile'])} quantile", found["split"]))
    if not origins:
        return ""
    rows = [["hold-out", "fitted to C <=", "runs", "tested", "up to C", "rms", "mean abs", "bias", "max", "coverage"]]
    for name, one in origins:
        errors = [_percent(one[key]) for key in ("rms", "mean_absolute", "bias", "max")]
        sizes = [figure(one["threshold"], 3), str(one["num_train"]), str(one["num_test"]), figure(one["until"], 3)]
        rows.append([name, *sizes, *errors, _percent(one["coverage"], 2)])
    text = aligned(rows)
    if found["widening"] is not None:
        factor = found["widening"]
        text += (
            f"\n{_percent(found['coverage'], 3)} of {found['num_tested']} larger runs lie in their 95 % prediction "
            f"intervals, up to {figure(found['reach'], 3)} times the compute fitted; "
            + ("not widened" if factor == 1 else f"prediction intervals are widened {figure(factor, 3)} times")
        )
    return text


def _percent(share: float | None, digits: int = 3) -> str:
    return "-" if share is None else f"{figure(100 * share, digits)} %"
