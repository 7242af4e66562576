"""Proves that the solver finds known surfaces exactly, agrees with scipy's least squares, and says no when it must."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from pipeline.fitting.forms import Additive, QForm
from pipeline.fitting.points import cell_weights, centred_points
from pipeline.fitting.solver import fit, log_bounds, minimise, starting_points
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, grid, study

HOFFMANN = Additive(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)


@pytest.mark.parametrize(
    ("law", "scale"),
    [
        (ADDITIVE_TRUTH, 1),
        (Q_TRUTH, 1),
        (QForm(E=0.3, A=40.0, alpha=0.3, B=90.0, beta=0.32, q=0.6), 1),
        (QForm(E=1.2, A=300.0, alpha=0.45, B=200.0, beta=0.35, q=3.0), 1),
        (HOFFMANN, 100_000),
    ],
)
def test_noise_free_surfaces_come_back(law, scale):
    N, D, _ = study("S5")
    N, D = N * scale, D * scale
    found = fit(type(law), N, D, law.loss(N, D))
    assert found.status == "converged"
    for name in law.parameters():
        assert getattr(found.law, name) == pytest.approx(getattr(law, name), rel=1e-6), name
    assert found.rms < 1e-10
    assert found.agreeing_starts > found.num_starts / 2


def test_q_form_finds_an_additive_surface_to_have_q_of_one():
    N, D, _ = study("S5")
    assert fit(QForm, N, D, ADDITIVE_TRUTH.loss(N, D)).law.q == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("form", [Additive, QForm])
@pytest.mark.parametrize("name", ["S4", "S5"])
def test_objective_is_as_low_as_scipys(form, name):
    N, D, L = study(name)
    found = fit(form, N, D, L)
    points = centred_points(N, D, L)

    def residuals(theta):
        return np.log(form(*np.exp(theta)).loss(np.exp(points.x), np.exp(points.y))) - points.log_L

    best = min(
        float(np.sum(least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14).fun ** 2))
        for start in starting_points(form, points, 3)
    )
    assert found.objective <= best * (1 + 1e-9)


def test_same_input_same_bytes():
    table = study("S4")
    first, second = fit(QForm, *table), fit(QForm, *table)
    assert first.theta.tobytes() == second.theta.tobytes()


def test_order_of_runs_does_not_matter():
    N, D, L = study("S4")
    first, second = fit(QForm, N, D, L), fit(QForm, N[::-1], D[::-1], L[::-1])
    assert first.objective == pytest.approx(second.objective, rel=1e-10)


def test_weight_zero_is_the_same_as_leaving_out():
    N, D, L = study("S4")
    kept = N > N.min()
    points = centred_points(N, D, L)
    start = starting_points(QForm, points, 8)
    weighted = minimise(QForm, points, start, np.tile(kept.astype(float), (8, 1)))
    assert weighted.objective.min() == pytest.approx(fit(QForm, N[kept], D[kept], L[kept]).objective, rel=1e-8)


def test_replicates_do_not_bend_the_law():
    """Every (N, D) counts once: tripling the runs of one size leaves the fit where it was."""
    N, D, L = study("S4")
    times = 1 + 2 * (np.arange(len(N)) % 5 == 1)
    table = [np.repeat(column, times) for column in (N, D, L)]
    weighted = fit(QForm, *table, weights=cell_weights(*table[:2]))
    assert weighted.rms == pytest.approx(fit(QForm, N, D, L).rms, rel=1e-8)


def test_minimise_stays_inside_its_bounds():
    N, D, L = study("S4")
    points = centred_points(N, D, L)
    low, high = log_bounds(QForm, points)
    theta = minimise(QForm, points, np.tile(high + 5.0, (2, 1)), max_steps=50).theta
    assert (theta >= low).all()
    assert (theta <= high).all()


@pytest.mark.parametrize(
    ("sizes", "tokens", "reason"),
    [
        ([10_000, 40_000], (100_000, 200_000), "4 distinct (N, D), 5 parameters need 8"),
        ([10_000], tuple(100_000 * 2**k for k in range(8)), "1 distinct N; a power law with an offset needs 3"),
        ([10_000 * 2**k for k in range(8)], (100_000,), "1 distinct D; a power law with an offset needs 3"),
        ([10_000, 40_000], tuple(100_000 * 2**k for k in range(6)), "2 distinct N; a power law with an offset needs 3"),
    ],
)
def test_too_small_a_design_is_refused(sizes, tokens, reason):
    N, D = grid(sizes, tokens)
    found = fit(Additive, N, D, ADDITIVE_TRUTH.loss(N, D) * np.exp(0.001 * np.cos(np.arange(len(N)))))
    assert (found.status, found.identified) == ("not_identified", False)
    assert found.reason == reason


def test_a_collinear_design_is_refused_by_its_condition_number():
    N = np.geomspace(1e4, 1e6, 30)
    D = 20 * N
    law = Additive(E=1.0, A=100.0, alpha=0.35, B=300.0, beta=0.35)
    found = fit(Additive, N, D, law.loss(N, D) * np.exp(0.001 * np.cos(np.arange(30))))
    assert found.status == "not_identified"
    assert "condition number" in found.reason


def test_a_parameter_on_its_bound_is_named():
    N, D, _ = study("S5")
    law = Additive(E=1e-9, A=20.0, alpha=0.25, B=20.0, beta=0.25)
    found = fit(Additive, N, D, law.loss(N, D))
    assert found.status == "bound:E"
    assert found.reason == "E ended on the edge of its allowed range"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("L", np.nan, "L: run 3 is nan; must be finite and positive"),
        ("L", 0.0, "L: run 3 is 0.0; must be finite and positive"),
        ("N", -5.0, "N: run 3 is -5.0; must be finite and positive"),
        ("D", np.inf, "D: run 3 is inf; must be finite and positive"),
    ],
)
def test_impossible_values_are_refused(column, value, message):
    table = dict(zip(("N", "D", "L"), study("S4"), strict=True))
    table[column] = table[column].copy()
    table[column][3] = value
    with pytest.raises(ValueError, match=message):
        fit(Additive, **table)


def test_columns_of_unequal_length_are_refused():
    N, D, L = study("S4")
    with pytest.raises(ValueError, match="N, D, L, weights: different numbers of runs"):
        fit(Additive, N, D[:-1], L)


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="no runs to fit"):
        fit(Additive, [], [], [])
