"""Tables of how far a fit may be trusted: laws side by side, rolling hold-out, influence, approaches, next runs."""

from __future__ import annotations

import polars as pl

from pipeline.experiments.language_model.outlook import planned_sentence
from pipeline.experiments.language_model.scene import ALL_LAWS, LAW_NAMES, plain_words, usable_rows
from pipeline.fitting.prediction import BUDGET_FACTOR
from pipeline.reporting.numbers import known, percent, probability, significant
from pipeline.reporting.tables import FORMS, Table, estimate, from_frame, number, words

COUNTS = {
    "total": "all parameters",
    "non_embedding": "non-embedding",
    "with_head": "non-embedding and head",
    "exact_flops": "exact FLOPs / 6D",
}
"""What N counts: the conventions, and the N that makes C = 6ND the exact training FLOPs."""


def compared(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    """Every law that was fitted, side by side, by what it leaves in the runs and by what it says of larger ones."""
    frame = tables.get("compared", pl.DataFrame())
    rows = tuple(
        (
            words(ALL_LAWS.get(row["law"], row["law"]), note=row["formula"]),
            number(row["num_parameters"], FORMS["whole"]),
            number(row["objective"], significant),
            number(row["rms"], percent),
            number(row["bic"], lambda value: significant(value, 4)),
            number(row["held_out_rms"], percent),
            number(row["largest_run_error"], percent),
            words(status_words(row["status"]), note=plain_words(row["reason"]).rstrip(".") if row["reason"] else ""),
        )
        for row in frame.iter_rows(named=True)
    )
    header = ("law", "k", "objective", "rms", "BIC", "held-out rms", "largest run", "status")
    caption = (
        "k parameters. Objective, rms residual and BIC judge the runs that a law was fitted to; the held-out rms and "
        "the error at the largest run (measured less predicted) judge larger runs it has not seen, over all origins of "
        f"the rolling hold-out. {_preferences(frame)}"
    )
    return Table("compared", "Laws side by side", caption, header, rows, frame, row_headed=True, empty="no run to fit")


def _preferences(frame: pl.DataFrame) -> str:
    """Which law BIC and which the hold-out prefers, and which of the two counts."""
    rule = (
        "The hold-out chooses, between the first two: BIC sees only the runs in the fit, and a law may win there and "
        "still extrapolate badly. The others stand beside them for comparison."
    )
    best = {}
    for column in ("bic", "held_out_rms"):
        rows = usable_rows({"compared": frame}, "compared", [column])
        if rows.is_empty():
            return rule
        best[column] = ALL_LAWS[rows.sort(column)["law"][0]]
    if best["bic"] == best["held_out_rms"]:
        return f"The two may disagree; here both prefer the same, “{best['bic']}”. {rule}"
    return f"The two may disagree, and do: BIC prefers “{best['bic']}”, held-out “{best['held_out_rms']}”. {rule}"


def status_words(status: str | None) -> str | None:
    """A status of a fit as people read it."""
    return status.replace("_", " ").replace("bound:", "at its bound: ") if status else None


def rolling(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    """One row an origin and law: what was trained on, what was predicted, how well, and how many intervals held."""
    frame = tables.get("rolling", pl.DataFrame())
    shown = frame
    if not frame.is_empty():
        shown = frame.with_columns(pl.col("law").replace(LAW_NAMES), -pl.col("bias"))
    columns = {
        "law": ("law", "words"),
        "threshold_C": ("fitted up to C", "flops"),
        "num_train": ("points", "whole"),
        "until_C": ("asked up to C", "flops"),
        "num_test": ("points asked", "whole"),
        "bias": ("mean error", "percent"),
        "rms": ("rms error", "percent"),
        "max": ("largest", "percent"),
        "coverage": ("inside the 95 % interval", "percent"),
    }
    caption = "Error: ln(law / measured) of runs larger than any in the fit; no run is asked for twice."
    for name, label in LAW_NAMES.items():
        found = (summary.get("rolling") or {}).get(name) or {}
        if known(found.get("coverage")):
            tested = found["num_tested"]
            caption += (
                f" {label}: {round(found['coverage'] * tested)} of {tested} inside (chance of so few p "
                f"{probability(found['p'])}), "
            )
            widening = found["widening"]
            caption += (
                f"so its intervals are widened {significant(widening, 2)} times." if widening > 1 else "no widening."
            )
    return from_frame(
        "rolling_coverage",
        "Rolling hold-out, origin by origin",
        caption,
        frame if shown.is_empty() else shown,
        columns,
        empty="no origin: the smaller runs alone identify no law",
    )


def scales_left_out(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    """One row a size or token count left out: how the chosen law, fitted to the rest, predicts it."""
    frame = tables.get("scales_left_out", pl.DataFrame())
    shown = frame if frame.is_empty() else frame.with_columns(-pl.col("bias").cast(pl.Float64))
    columns = {
        "variable": ("left out", "words"),
        "value": ("value", "count"),
        "num_runs": ("points", "whole"),
        "bias": ("mean error", "percent"),
        "rms": ("rms error", "percent"),
    }
    caption = (
        "Each size and each token count left out in turn, and predicted by the chosen law fitted to the rest; error: "
        "ln(law / measured). Inner scales test the form, the outermost ones extrapolate."
    )
    return from_frame(
        "scales_left_out",
        "Scales left out",
        caption,
        shown,
        columns,
        folded=True,
        empty="none: no law is identified",
    )


def influence(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    """One row a run: what leaving it out does to the forecast and to each parameter, the largest move first."""
    frame = tables.get("influence", pl.DataFrame())
    if "change_of_forecast" in frame.columns:
        size = pl.col("change_of_forecast").cast(pl.Float64).abs().fill_nan(None)
        frame = frame.sort(size, "run_id", descending=[True, False], nulls_last=True)
    columns = {
        "run_id": ("run", "words"),
        "N": ("N", "count"),
        "D": ("D", "count"),
        "seed": ("seed", "whole"),
        "change_of_forecast": ("ln L of the forecast", "percent"),
        "cook": ("Cook's D", "significant"),
    }
    symbols = {"E": "E", "A": "A", "alpha": "α", "B": "B", "beta": "β", "q": "q"}
    columns |= {f"change_of_{name}": (symbol, "significant") for name, symbol in symbols.items()}
    caption = (
        f"Each run left out in turn and the law fitted again: change of ln L at {BUDGET_FACTOR:g} times the largest "
        "compute and of each parameter, refit less fit. Cook's D near 1 would mean that one run moves all parameters "
        "to the edge of their 50 % region."
    )
    return from_frame(
        "influence_by_run",
        "Influence, run by run",
        caption,
        frame,
        columns,
        folded=True,
        empty="none: the law shows no parameters",
    )


def approaches(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    """The exponent a by envelope, isoFLOP minima and law under each count of parameters, and whether they agree."""
    frame = tables.get("approaches", pl.DataFrame())
    rows, groups = [], []
    for row in frame.iter_rows(named=True):
        p = f" (p {probability(row['p'])})" if known(row["p"]) else ""
        groups.append(f"N counts {COUNTS[row['convention']]}: {row['agreement']}{p}")
        remark = plain_words(row["remark"]).rstrip(".") if row["remark"] else None
        rows.append((words(row["approach"]), estimate(row["a"], (row["low"], row["high"])), words(remark)))
    verdicts = set(frame["agreement"]) if not frame.is_empty() else set()
    caption = "N* grows as C to the power a, by three approaches to the same runs, with 95 % intervals. "
    if "disagree" in verdicts:
        caption += "Where they disagree, at least one of them is wrong, whatever its interval says."
    elif verdicts == {"agree"}:
        caption += "They agree under every count."
    elif verdicts:
        caption += (
            "Undetermined: fewer than two approaches give an interval, or one is too wide (standard error above 0.05) "
            "for agreement to mean anything."
        )
    return Table(
        "approaches",
        "Three approaches, by what is counted",
        caption,
        ("approach", "exponent a", "from"),
        tuple(rows),
        frame,
        row_headed=True,
        groups=tuple(groups),
        empty="none: no law is identified, or there is no noise to compare with",
    )


def next_runs(summary: dict, tables: dict[str, pl.DataFrame]) -> Table:
    """The runs that would narrow the forecast most for what they cost, in order."""
    frame = tables.get("next_runs", pl.DataFrame())
    columns = {
        "N": ("N", "count"),
        "D": ("D", "count"),
        "C": ("C, FLOPs", "flops"),
        "error_before": ("standard error before", "fine_percent"),
        "error_after": ("after", "fine_percent"),
        "total_flops": ("FLOPs so far", "flops"),
    }
    caption = (
        f"The standard errors are those of ln L at {BUDGET_FACTOR:g} times the largest compute, without and with the "
        "run, given those before it; a repeated row asks for another seed. They allow for a law that is not quite "
        "right away from its runs. "
        f"{planned_sentence(summary)}"
    )
    empty = "none: no law to plan with"
    return from_frame("next_runs", "Runs to do next", caption.strip(), frame, columns, empty=empty)
