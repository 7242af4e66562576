"""The few numbers of a study that two versions of it are compared by: what `dvc metrics show` and `diff` print."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.experiments.experiment import LANGUAGE_MODEL


def headline(experiments: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Plain numbers from the experiments of findings.json: the chosen law with its 95 % intervals (low, high), how it
    fits and how it predicts held-out larger runs (relative), the exponent a of N* ~ C^a, counts of points, and of
    the verdicts on laws inside their regimes. None where nothing is known."""
    summary = experiments[LANGUAGE_MODEL]["summary"]
    law, held = summary["laws"][summary["chosen"]], summary["holdout"]["laws"][summary["chosen"]]
    noise, frontier = summary["seed_noise"] or {}, summary["frontier"]
    findings = [
        finding for judged in experiments.values() for finding in judged["findings"] if finding["role"] == "law"
    ]
    verdicts = Counter(finding["verdict"] for finding in findings)
    low_high = {name: interval or [None, None] for name, interval in law["intervals"].items()}
    return {
        "law": {
            "form": summary["chosen"],
            **law["params"],
            **{f"{name}_low": low for name, (low, _) in low_high.items()},
            **{f"{name}_high": high for name, (_, high) in low_high.items()},
            "a": frontier["a"],
        },
        "fit": {"rms": law["rms"], "num_points": summary["num_points"], "num_excluded": summary["num_excluded"]},
        "holdout": {"rms": held["rms"], "max": held["max"], "coverage": held["interval_coverage"]},
        "noise": {"seed_sd": noise.get("sd")},
        "findings": dict(sorted(verdicts.items())),
    }
