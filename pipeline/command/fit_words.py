"""What `study fit` prints, from the same values that it writes as JSON."""

from __future__ import annotations

from typing import Any

from pipeline.command.words import aligned, between, figure, listed

MOST_NAMED = 6
"""Budgets that are named of those refused for one reason; the JSON has all."""
UNITS = {"N": "parameters", "D": "tokens", "C": "FLOPs"}
DERIVED = {"N": "C / 6 D", "D": "C / 6 N"}
"""What stands for a column that the table does not hold."""


def fit_text(result: dict[str, Any]) -> str:
    """The printed report of a fit; of a refused one the refusal comes first and no parameter at all."""
    parts = []
    if not result["answered"]:
        parts.append(f"REFUSED ({result['status']}): no parameter of the {result['law']} law can be given.")
        parts[-1] += f"\n{result['reason']}"
    parts.append(_head(result))
    if result["answered"] and result["params"]:
        parts.append(_parameters(result))
    parts.append(_minima(result["minima"]))
    if result["answered"]:
        parts.append(_frontier(result["frontier"]))
    parts.append(_published(result["published"]))
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
    if not any(row["chosen"] for row in rows):
        why = "none chosen: no law could be tested on held-out larger runs"
    return f"{aligned([head, *cells])}\n{why}"


def _head(result: dict[str, Any]) -> str:
    dropped = result["num_rows"] - result["num_runs"]
    spans = [
        f"{name} {figure(low, 3)} to {figure(high, 3)} {UNITS[name]}" for name, (low, high) in result["span"].items()
    ]
    copies = f" ({dropped} copies left out)" if dropped else ""
    columns = {letter: result["columns"].get(letter) or DERIVED.get(letter) for letter in "NDLC"}
    read = [f"{letter} = {name}" for letter, name in columns.items() if name and letter not in result["absent"]]
    rows = [
        ("table", f"{result['table']}: {result['num_runs']} runs{copies}"),
        *(("", note) for note in result["notes"]),
        ("columns", ", ".join(read)),
        ("span", ", ".join(spans)),
        ("law", f"{result['law']}: {result['formula']}"),
        ("source", result["source"]),
        ("estimator", result["estimator"]),
    ]
    if result["minima"] is not None:
        return listed([*rows, ("status", result["status"])])
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
    rows = [["parameter", "value", "std. error", "95 % interval"]]
    if clustered:
        rows[0] += ["error by cluster", "interval by cluster"]
    for name, value in result["params"].items():
        row = [name, figure(value, 7), figure(result["standard_errors"][name]), between(result["intervals"][name])]
        if clustered:
            row += [figure(result["cluster_standard_errors"][name]), between(clustered[name])]
        rows.append(row)
    methods = [f"intervals: {method}" for method in result["resampling"]] or [f"no intervals: {result['no_intervals']}"]
    if clustered:
        methods[1] = f"intervals by cluster, and of all that follows from the law: {result['resampling'][1]}"
    return "\n".join([aligned(rows), *methods])


def _minima(rows: list[dict[str, Any]] | None) -> str:
    """Budgets with their optimum, or with the reason why there is none."""
    if rows is None:
        return ""
    cells = [["isoFLOP budget, C", "sizes", "N*", "D*", "tokens a parameter"]]
    refused: dict[str, list[float]] = {}
    for row in rows:
        if row["params"] is None:
            refused.setdefault(row["reason"], []).append(row["C"])
        else:
            sizes = [figure(row[name], 4) for name in ("params", "tokens", "tokens_per_parameter")]
            cells.append([figure(row["C"], 4), str(row["num_sizes"]), *sizes])
    lines = [aligned(cells)] if len(cells) > 1 else []
    for reason, budgets in refused.items():
        more = f" and {len(budgets) - MOST_NAMED} more" if len(budgets) > MOST_NAMED else ""
        lines.append(f"refused: C = {', '.join(figure(C) for C in budgets[:MOST_NAMED])}{more}: {reason}")
    return "\n".join(lines)


def _published(found: dict[str, Any] | None) -> str:
    """Published numbers beside ours."""
    if found is None:
        return ""
    cells = [["published beside ours", "ours", "95 % interval", "published", "interval", "difference", "std. errors"]]
    for row in found["rows"]:
        apart = row["standard_errors"]
        cells.append(
            [
                row["name"],
                figure(row["value"], 6),
                between(row["interval"]),
                figure(row["published"], 6),
                between(row["published_interval"]),
                figure(row["difference"], 2),
                "-" if apart is None else f"{apart:+.2f}",
            ]
        )
    return f"{aligned(cells)}\npublished: {found['source']}"


def _frontier(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    lines = []
    if found["a"] is not None:
        exponents = (f"{key} = {_with_interval(found[key], found[f'{key}_interval'], 4)}" for key in "ab")
        fixed = ", fixed by the form of the law" if found["a_interval"] is None and found["params_interval"] else ""
        lines.append("compute-optimal: N* ~ C^a, D* ~ C^b with " + ", ".join(exponents) + fixed)
    if found.get("method"):
        lines.append(found["method"])
    if found["params"] is not None:
        lines.append(
            f"on {figure(found['C'], 3)} FLOPs: N* = {_with_interval(found['params'], found['params_interval'], 3)}, "
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


def _with_interval(value: float, ends: list[float] | None, digits: int) -> str:
    return figure(value, digits) + (f" {between(ends)}" if ends else "")
