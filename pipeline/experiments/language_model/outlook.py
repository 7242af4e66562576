"""What the study says of ten times its compute: the forecast with its interval, in a sentence and in numbers."""

from __future__ import annotations

import polars as pl

from pipeline.fitting.prediction import BUDGET_FACTOR, Budget, Predictor
from pipeline.reporting.chapter import Fact
from pipeline.reporting.numbers import (
    DASH,
    count,
    decimal,
    factor,
    interval,
    known,
    percent,
    significant,
)


def predictor_in(summary: dict, tables: dict[str, pl.DataFrame]) -> Predictor | None:
    """The predictor that the study's judgement holds; None where it has none."""
    stored, draws = summary.get("forecast"), tables.get("draws", pl.DataFrame())
    return Predictor.from_dict(stored, draws.to_numpy()) if stored and not draws.is_empty() else None


def forecast(summary: dict, tables: dict[str, pl.DataFrame]) -> Budget | None:
    """The best use of BUDGET_FACTOR times the largest compute; None where the study has no predictor."""
    predictor = predictor_in(summary, tables)
    return predictor and predictor.budget(BUDGET_FACTOR * predictor.C_range[1])


def forecast_sentence(summary: dict, tables: dict[str, pl.DataFrame]) -> str:
    """What ten times the compute would buy, how far that may be trusted, and whether it had to be widened."""
    budget = forecast(summary, tables)
    if budget is None:
        return ""
    best = budget.best
    text = (
        f"Ten times the largest compute, {significant(best.C, 2, 1.0)} FLOPs, would buy a loss of "
        f"{in_words(best.loss, best.prediction_interval)} nats/token (95 % prediction interval of one run) with N = "
        f"{in_words(best.N, budget.N_interval, count)} and D = {in_words(best.D, budget.D_interval, count)}. The "
        f"valley is flat: every N from {count(budget.flat_N[0], 2)} to {count(budget.flat_N[1], 2)} comes within 0.1 % "
        f"of the least loss. {_trust(summary)} The interval supposes that the law still holds there: take it as a "
        "guess to be tested, not as a promise."
    )
    return text


def _trust(summary: dict) -> str:
    """Whether intervals held on larger runs, and what was done about it."""
    rolling = (summary.get("rolling") or {}).get((summary.get("forecast") or {}).get("law")) or {}
    if not known(rolling.get("coverage")):
        return "No rolling hold-out tested such intervals, so this one is as the fit gives it."
    tested = rolling["num_tested"]
    text = (
        f"Asked for larger runs, by a factor of up to {factor(rolling['reach'])[:-1]} in compute, the law's 95 % "
        f"intervals held {round(rolling['coverage'] * tested)} of {tested} measured losses"
    )
    if rolling["widening"] > 1:
        return (
            f"{text}, fewer than chance explains. The intervals are too narrow beyond the runs, so the one above was "
            f"widened {factor(rolling['widening'])[:-1]} times."
        )
    return f"{text}, so it was not widened."


def forecast_fact(summary: dict, tables: dict[str, pl.DataFrame]) -> Fact:
    """The forecast as a headline number."""
    budget = forecast(summary, tables)
    if budget is None:
        return Fact("loss at 10× compute", DASH)
    wide = budget.best.prediction_interval
    widened = (summary["forecast"].get("widening") or 1.0) > 1
    return as_fact("loss at 10× compute", budget.best.loss, wide, "widened" if widened else "extrapolated")


def planned_sentence(summary: dict) -> str:
    """What the next runs would cost and how far they would narrow the forecast; "" where none are planned."""
    plan = summary.get("planned") or {}
    now, then = plan.get("half_width_now"), plan.get("half_width_then")
    if not (known(now) and known(then)):
        return ""
    return (
        f"Together they cost {significant(plan['flops'], 2, 1.0)} FLOPs and are expected to narrow the 95 % interval "
        f"of the loss at {significant(plan['C'], 2, 1.0)} FLOPs from ±{percent(now)} to ±{percent(then)}, if the law "
        "is right."
    )


def as_fact(label: str, value: float | None, bounds, remark: str) -> Fact:
    """A fact with its interval, if there is one, before the remark."""
    front, _, behind = in_words(value, bounds).partition(" ")
    return Fact(label, front, ", ".join(part for part in (behind, remark) if part))


def in_words(value: float | None, bounds, form=None) -> str:
    """`value [low, high]` with decimals that fit the interval, or by `form`; the value alone where there is none."""
    low, high = bounds or (None, None)
    if form is not None:
        return f"{form(value)} [{form(low)}, {form(high)}]" if known(low) and known(high) else form(value)
    text = interval(low, high, value)
    if not known(value) or "[" not in text:
        return significant(value)
    places = len(text.split(",")[0].partition(".")[2])
    front = significant(value) if abs(value) >= 1e6 else decimal(value, places)
    return f"{front} {text}"
