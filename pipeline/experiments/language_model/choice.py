"""Which of two laws the study stands on, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.fitting.holdout import holdout_advantage
from pipeline.fitting.laws import Law
from pipeline.fitting.tree_noise import TreeNoise

if TYPE_CHECKING:
    from pipeline.experiments.language_model.evidence import Trial


def choose(forms: Sequence[type[Law]], trials: dict[str, Trial], noise: TreeNoise) -> tuple[str, str]:
    """(name of the law, one sentence that says why) of two `forms`: the hold-out decides, lack of fit breaks a tie.

    A tie is a difference of less than two sd of what `noise` in the runs' ln L makes of it.
    """
    known = {name: trial for name, trial in trials.items() if trial.fit.identified}
    passing = {name: trial for name, trial in known.items() if not trial.gate}
    if len(passing) == 1 and len(known) > 1:
        (name,) = passing
        return name, f"Of these {len(known)} laws only {name} passes its gate."
    if not known:
        return forms[0].name, "Neither law is identified by these runs, so there is nothing to choose between."
    if len(known) == 1:
        (name,) = known
        (other,) = set(trials) - {name}
        return name, f"Only {name} is identified by these runs ({other}: {trials[other].fit.reason})."
    first, second = (known[form.name] for form in forms)
    simple, rich = (form.name for form in forms)
    if first.holdout is None or second.holdout is None:
        return _tied(
            forms, known, "The runs below the compute threshold do not identify both laws, so no hold-out compares them"
        )
    rms = f"{100 * first.holdout.rms:.2f} % for {simple} and {100 * second.holdout.rms:.2f} % for {rich}"
    difference, error = holdout_advantage(first.holdout, second.holdout, noise)
    if abs(difference) <= 2 * error:
        return _tied(
            forms, known, f"The held-out rms, {rms}, differ by less than twice what noise between seeds can do"
        )
    name = simple if difference < 0 else rich
    return name, f"The hold-out chose {name}: held-out rms {rms}, more than noise between seeds can do."


def _tied(forms: Sequence[type[Law]], known: dict[str, Trial], because: str) -> tuple[str, str]:
    for form in forms:
        test = known[form.name].lack_of_fit
        if test and test.p > 0.05:
            return form.name, f"{because}; {form.name} is the law of fewest parameters that fits (p = {test.p:.2g})."
    if all(trial.lack_of_fit is None for trial in known.values()):
        return forms[0].name, f"{because}; {forms[0].name} has fewer parameters."
    name = min(known, key=lambda key: known[key].fit.rms)
    return name, f"{because}; no law fits within seed noise and {name} leaves the smaller residual."
