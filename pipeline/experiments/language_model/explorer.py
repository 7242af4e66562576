"""What the interactive figures of the page are drawn from: the points under every count of N and C, and their laws."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.experiments.language_model.scene import CONVENTIONS, Scene, make_scene, marked
from pipeline.fitting.laws import QForm
from pipeline.reporting.figures import shades
from pipeline.reporting.numbers import known


def explorer(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame) -> dict[str, Any] | None:
    """Columns and laws as plain JSON values, None without a point.

    `points` holds one list a column, N under each convention, C_6ND with the headline N; at most as many points as a
    figure marks. `laws` has theta (ln E, ln A, ln alpha, ln B, ln beta, ln q) for each convention whose fit may be
    shown; `frontier` is the band of the headline law.
    """
    scene = make_scene(summary, tables, runs, pl.DataFrame())
    if scene.points.is_empty():
        return None
    columns = [column for column, _ in CONVENTIONS.values()]
    facts = runs.select("run_id", *columns, pl.col("C").alias("C_exact"), "bits_per_byte")
    shown, left_out = marked(scene.points, "N")
    points = shown.select("run_id", "width", "seed", "D", "loss").join(facts, "run_id", "left", maintain_order="left")
    return {
        "points": points.to_dict(as_series=False),
        "left_out": left_out.strip(),
        "conventions": {
            name: {"column": column, "short": name.replace("total", "all").replace("non_", "non-").replace("_", " ")}
            for name, (column, _) in CONVENTIONS.items()
        },
        "headline": summary["convention"],
        "laws": _laws(summary) if scene.law else {},
        "law": scene.law_label,
        "colours": {
            "width": {str(width): colour for width, colour in shades(points["width"]).items()},
            "D": {str(D): colour for D, colour in shades(points["D"], "plasma").items()},
        },
        "frontier": _band(scene),
        "held_out_above": (summary.get("holdout") or {}).get("threshold_C"),
    }


def _laws(summary: dict) -> dict[str, list[float]]:
    """Theta of the chosen law by convention, as a q-form; a Chinchilla law is one with q = 1."""
    found = {}
    for name, entry in (summary.get("conventions") or {}).items():
        values = {key: entry.get(key) for key in QForm.parameters()} | {"q": entry.get("q") or 1.0}
        if entry.get("status") == "converged" and all(known(value) for value in values.values()):
            found[name] = [float(value) for value in QForm(**values).theta]
    return found


def _band(scene: Scene) -> dict[str, list[float]] | None:
    if scene.frontier.is_empty():
        return None
    rows = scene.frontier.filter(pl.col("C") <= 10 * scene.points["C"].max())
    return rows.select("C", "loss", "loss_low", "loss_high").to_dict(as_series=False)
