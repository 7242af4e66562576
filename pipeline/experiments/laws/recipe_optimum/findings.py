"""The judgement: what the study's value of each dial costs, over which range it costs little, and whether the best
value of the narrowest width is still good at the widest."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from pipeline.experiments.experiment import Finding, Regime, Verdict
from pipeline.experiments.laws.recipe_optimum.swept import Swept, ruled
from pipeline.experiments.laws.recipe_optimum.tables import NAME
from pipeline.experiments.verdict import LEVEL

SERIOUS: tuple[Verdict, ...] = ("violated", "undetermined", "not_reached", "holds")
"""Verdicts, the worst first."""
TOLD = {True: "The recipe of the study is at its optimum", False: "The recipe of the study is not at its optimum",
        None: "Whether the recipe of the study is at its optimum is not settled"}  # fmt: skip


def finding_of_dial(widths: list[Swept]) -> Finding:
    """The regret of the study's value of one dial, at the width where it stands worst."""
    worst = min(widths, key=lambda one: (SERIOUS.index(one.verdict), -_regret(one)))
    says = f"{worst.dial.quantity} {_value(worst.study)}: {'; '.join(_told(one) for one in widths)}."
    return _finding(
        f"{worst.dial.quantity} of the study is at its optimum",
        says[0].upper() + says[1:],
        "L(study's value) / min L - 1 = 0",
        worst,
        worst.regret if worst.sweep else None,
        worst.verdict,
        [] if worst.sweep is None else _regimes(widths),
    )


def finding_of_transfer(swept: list[Swept]) -> Finding | None:
    """What the best value at the narrowest width costs at the widest, of the dial where it stands worst; None where no
    dial has an optimum at both."""
    costs = []
    for _, widths in groupby(swept, key=lambda one: one.name):
        known = list(widths)
        narrow, wide = known[0], known[-1]
        if narrow is not wide and narrow.sweep and wide.sweep and narrow.sweep.bracketed:
            costs.append((narrow, wide, transfer(narrow, wide)))
    if not costs:
        return None
    rank = [(SERIOUS.index(_transferred(wide, cost)), -cost[0]) for _, wide, cost in costs]
    narrow, wide, cost = costs[rank.index(min(rank))]
    says = (
        f"The best {wide.dial.quantity} at width {narrow.width}, {_value(narrow.optimum[0])}, costs "
        f"{percent(cost[0])} % of the loss at width {wide.width}, the most of {len(costs)} dials."
    )
    regime = [Regime("width", "", float(narrow.width), float(wide.width))]
    formula = "L(w, best at w0) / min L(w) - 1 = 0"
    return _finding("the best recipe transfers over width", says, formula, wide, cost, _transferred(wide, cost), regime)


def transfer(narrow: Swept, wide: Swept) -> tuple[float, float, float]:
    """(regret, low, high) at the wide width of the best value of the narrow one, whose own interval is gone through as
    far as it lies in the sweep."""
    sweep, place = wide.sweep, narrow.sweep.optimum
    reach = narrow.sweep.quantile * narrow.sweep.optimum_error
    places = np.clip(place + reach * np.linspace(-1, 1, 21), sweep.x[0], sweep.x[-1])
    lows, highs = zip(*(sweep.regret_interval(one) for one in places), strict=True)
    return sweep.regret(place), min(lows), max(highs)


def _transferred(wide: Swept, cost: tuple[float, float, float]) -> Verdict:
    return ruled(cost[1:], wide.tolerance, wide.sweep.bracketed)


def standing(swept: list[Swept], findings: list[Finding], tokens: int) -> dict:
    """What the report's checklist prints: whether every dial of the study is at its optimum, and what it costs."""
    verdicts = {one.verdict for one in findings}
    inside = False if "violated" in verdicts else True if verdicts == {"holds"} else None
    regrets, told = {}, []
    for name in dict.fromkeys(one.name for one in swept):
        known = [one for one in swept if one.name == name and one.sweep]
        worst = max(known, key=_regret, default=None)
        regrets[name] = worst.regret[0] if worst else None
        told.append(f"{name.replace('_', ' ')} {_saving(worst)}")
    widths = " and ".join(str(width) for width in sorted({one.width for one in swept}))
    sentence = (
        f"{TOLD[inside]}: at widths {widths} and {tokens:,} tokens, the best value of each dial, moved alone, would "
        f"save (% of the loss, the larger of the widths, 95 % interval): {', '.join(told)}."
    )
    return {"inside": inside, "regrets": regrets, "sentence": sentence}


def _saving(worst: Swept | None) -> str:
    if worst is None:
        return "unknown"
    cost, low, high = (percent(part) for part in worst.regret)
    return f"{'' if worst.sweep.bracketed else 'at least '}{cost} ({low} to {high})"


def percent(regret: float) -> str:
    """A part of the loss as per cent in two digits, without the sign."""
    return f"{100 * regret:.2f}" if regret < 0.1 else f"{100 * regret:.0f}"


def _finding(law, says, formula, worst: Swept, cost, verdict: Verdict, regimes: list[Regime]) -> Finding:
    value, low, high = (None, None, None) if cost is None else cost
    error = None if cost is None else (high - low) / (2 * worst.sweep.quantile)
    return Finding(
        law=law,
        statement=says,
        formula=formula,
        source="this study",
        unit="relative",
        predicted=0.0,
        measured=value,
        interval=None if cost is None else (low, high),
        tolerance=worst.tolerance,
        tolerance_kind="at_most",
        verdict=verdict,
        regime=regimes,
        error=error,
        figure=NAME,
    )


def _regret(one: Swept) -> float:
    return one.regret[0] if one.sweep else np.inf


def _told(one: Swept) -> str:
    """What one width says of a dial."""
    if one.sweep is None:
        return f"at width {one.width} too many runs diverged"
    cost, low, high = (percent(part) for part in one.regret)
    best, *ends = (_value(part) for part in one.optimum)
    if not one.sweep.bracketed:
        return (
            f"at width {one.width} the best value lies at an end of the sweep or is not settled by it, and the study's "
            f"costs at least {cost} % ({low} to {high})"
        )
    return (
        f"at width {one.width} the best is {best} ({100 * LEVEL:.0f} % interval {ends[0]} to {ends[1]}), and the "
        f"study's costs {cost} % of the loss ({low} to {high})"
    )


def _value(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.3g}"


def _regimes(widths: list[Swept]) -> list[Regime]:
    """The values around the least loss that cost less than the tolerance at every width, and where one first does
    not."""
    dial, known = widths[0].dial, [one for one in widths if one.sweep]
    cheap: dict[float, bool] = {}
    for one in known:
        for x, holds in zip(one.sweep.x, one.cheap, strict=True):
            cheap[float(x)] = cheap.get(float(x), True) and bool(holds)
    places = sorted(cheap)
    middle = float(np.mean([one.sweep.optimum for one in known]))
    start = min((x for x in places if cheap[x]), key=lambda x: abs(x - middle), default=None)
    if start is None:
        return [Regime(dial.quantity, dial.unit, None, None)]
    low = high = places.index(start)
    while low > 0 and cheap[places[low - 1]]:
        low -= 1
    while high + 1 < len(places) and cheap[places[high + 1]]:
        high += 1
    broken = [places[index] for index in (low - 1, high + 1) if 0 <= index < len(places)]
    nearest = min(broken, key=lambda x: abs(x - middle), default=None)
    at = [None if x is None else float(widths[0].study * np.exp(x)) for x in (places[low], places[high], nearest)]
    return [Regime(dial.quantity, dial.unit, *at)]
