"""Laws side by side on a user's table, and the one that the rolling hold-out chooses: `study fit --law auto`."""

from __future__ import annotations

from typing import Any

from pipeline.fitting.compare import choose, scored
from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws import Chinchilla, Kaplan, Law, NoOffset, QForm, Tied
from pipeline.fitting.runs import Runs

CANDIDATES: tuple[type[Law], ...] = (Tied, Chinchilla, NoOffset, Kaplan, QForm)
"""Laws of N and D that need no further column."""


def chosen_law(runs: Runs, estimator: Estimator, seed: int) -> tuple[type[Law] | None, list[dict[str, Any]]]:
    """(the law that predicts held-out larger runs best, of fewest parameters within one standard error; a row a law).

    None where no law could be tested. A row has the law, its parameters, objective, rms, BIC, held-out rms and
    the error at the largest run; BIC stands beside the hold-out and does not choose.
    """
    entries = [scored(form, runs, estimator, 0, seed) for form in CANDIDATES]
    best = choose(entries)
    form = best.fit.form if best else None
    rows = []
    for entry in entries:
        known = entry.fit.identified
        rows.append(
            {
                "law": entry.fit.form.name,
                "num_parameters": len(entry.fit.theta),
                "status": entry.fit.status,
                "objective": entry.fit.objective if known else None,
                "rms": entry.fit.rms if known else None,
                "bic": entry.bic if known else None,
                "holdout_rms": entry.held_out,
                "largest_run_error": entry.largest_run_error,
                "chosen": entry.fit.form is form,
            }
        )
    return form, rows
