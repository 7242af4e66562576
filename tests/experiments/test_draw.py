"""Figures of the language-model study, from tables and curves written here.

Reference: the isoFLOP minima of the study's own engine, ratios by hand, a curve whose last step holds a single loss.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.language_model.draw import training_curves
from pipeline.experiments.language_model.draw_checks import tokens_per_parameter
from pipeline.experiments.language_model.draw_isoflop import with_minima
from pipeline.experiments.language_model.scene import Scene
from pipeline.fitting.isoflop import isoflop
from pipeline.reporting.figures import shades, styled


def scene(**given) -> Scene:
    """A scene with these parts; the others are empty."""
    points = pl.DataFrame({"N": [1e5], "D": [2e6], "C": [1.2e12], "loss": [2.0], "role": ["grid"]})
    parts = dict.fromkeys(("runs", "curves", "frontier"), pl.DataFrame()) | {"points": points}
    parts |= {"summary": {}, "tables": {}, "law": None, "law_label": "law", "predictions": [], "valid_from": {}}
    return Scene(**parts | {"size_colours": shades(points["N"])} | given)


def test_a_star_lies_at_the_lowest_place_of_the_fitted_parabola():
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e4, 1e6, 8), np.geomspace(1e5, 3e7, 7)))
    L = (0.8 + 28 / N**0.35 + 73 / D**0.36) * np.exp(0.003 * np.random.default_rng(0).standard_normal(len(N)))
    minima = isoflop(N, D, L, 0.003, 10, 0).minima
    rows = pl.concat(
        pl.DataFrame({"C": part.C, "N": part.N, "loss": part.loss, "N_star": part.N_star}) for part in minima
    )
    found = with_minima(rows).unique("C", maintain_order=True)
    assert len(found) == len(minima) > 3
    for part, loss in zip(minima, found["loss_star"], strict=True):
        here = np.argsort(np.abs(np.arange(len(part.N)) - np.argmin(part.loss)), kind="stable")[:5]
        log_N = np.log(part.N[np.sort(here)])
        parabola = np.polynomial.Polynomial.fit(log_N, np.log(part.loss[np.sort(here)]), 2)
        if 2 <= np.argmin(part.loss) <= len(part.N) - 3:
            (vertex,) = parabola.deriv().roots()
            assert part.N_star == pytest.approx(np.exp(vertex), rel=1e-8)
            assert loss == pytest.approx(np.exp(parabola(vertex)), rel=1e-8)


def test_a_refused_slice_has_no_star():
    rows = pl.DataFrame({"C": 1e12, "N": [1e4, 1e5, 1e6], "loss": [1.0, 2.0, 3.0], "N_star": None})
    assert with_minima(rows.cast({"N_star": pl.Float64}))["loss_star"].null_count() == 3


def test_the_band_of_tokens_per_parameter_is_in_its_table():
    ends = {"N_star": [1e5], "N_low": [5e4], "N_high": [2e5], "D_star": [2e6], "D_low": [1e6], "D_high": [4e6]}
    with styled():
        figure = tokens_per_parameter(scene(frontier=pl.DataFrame({"C": [1.2e12], "loss": [2.0]} | ends)))
    assert figure.table.select("low", "tokens_per_parameter", "high").row(0) == (5.0, 20.0, 80.0)
    assert "wider" not in figure.caption


def test_no_step_of_a_training_curve_is_a_rest():
    """Each run's steps are equally wide: the last is no single loss, which is off by its noise."""
    tokens = np.concatenate([np.arange(1e5, 2e6, 1e4), [2e6]])
    loss = np.where(tokens == 2e6, 0.1, 2.0)
    runs = pl.DataFrame({"run_id": ["a"], "role": ["grid"], "kind": ["cooldown"], "start_tokens": [0], "N": [1e5]})
    curves = pl.DataFrame({"run_id": "a", "tokens": tokens, "train_loss": loss})
    with styled():
        table = training_curves(scene(runs=runs, curves=curves)).table
    assert table["tokens"][-1] == 2e6
    assert table["train_loss"][-1] > 1.5
    ends = np.log(np.append(1e5, table["tokens"]))
    assert np.diff(ends)[1:].max() < 0.1
