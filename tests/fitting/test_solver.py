"""Proves that the solver finds every law's truth, agrees with scipy's minimisers, and says no when it must."""

import numpy as np
import pytest
from scipy.optimize import least_squares, linprog, minimize

from pipeline.fitting.estimators import L1, L2, L2_LINEAR, Huber, asymmetric, estimator_named
from pipeline.fitting.laws import Chinchilla, QForm, SaturatingC
from pipeline.fitting.minima import minimise
from pipeline.fitting.points import cell_weights, centred_points
from pipeline.fitting.solver import fit
from pipeline.fitting.starts import log_bounds, starting_points
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, grid, study
from tests.fitting.test_laws import TRUTHS, by_name, columns
from tests.fitting.test_laws import grid as large_grid

ESTIMATORS = [Huber(), Huber(1e-3), L1, L2, L2_LINEAR, asymmetric()]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: estimator.text)
@pytest.mark.parametrize("law", TRUTHS, ids=by_name)
def test_noise_free_tables_give_their_law_back(law, estimator):
    N, D = large_grid()
    more = columns(law, D)
    found = fit(type(law), N, D, law.loss(N, D, **more), estimator, columns=more)
    assert found.status == "converged"
    for name in law.parameters():
        assert getattr(found.law, name) == pytest.approx(getattr(law, name), rel=1e-6), name


@pytest.mark.parametrize("law", [ADDITIVE_TRUTH, Q_TRUTH], ids=by_name)
def test_small_studies_give_their_law_back(law):
    N, D, _ = study("S5")
    found = fit(type(law), N, D, law.loss(N, D))
    for name in law.parameters():
        assert getattr(found.law, name) == pytest.approx(getattr(law, name), rel=1e-6), name
    assert found.rms < 1e-10
    assert found.agreeing_starts > found.num_starts / 2


def test_q_form_finds_an_additive_surface_to_have_q_of_one():
    N, D, _ = study("S5")
    assert fit(QForm, N, D, ADDITIVE_TRUTH.loss(N, D)).law.q == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("form", [Chinchilla, QForm])
@pytest.mark.parametrize("name", ["S4", "S5"])
def test_least_squares_objective_is_as_low_as_scipys(form, name):
    N, D, L = study(name)
    found = fit(form, N, D, L, L2)
    points = centred_points(N, D, L)

    def residuals(theta):
        return np.log(form(*np.exp(theta)).loss(np.exp(points.at.ln_N), np.exp(points.at.ln_D))) - points.log_L

    best = min(
        float(np.sum(least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14).fun ** 2))
        for start in starting_points(form, points, 3)
    )
    assert found.objective <= best * (1 + 1e-9)


@pytest.mark.parametrize("estimator", [Huber(1e-3), Huber(0.01), asymmetric(0.2, 0.003), L2_LINEAR])
def test_other_objectives_are_as_low_as_scipys(estimator):
    N, D, L = study("S5")
    found = fit(Chinchilla, N, D, L, estimator)
    points = centred_points(N, D, L)
    n, d = np.exp(points.at.ln_N), np.exp(points.at.ln_D)

    def objective(theta):
        predicted = np.log(Chinchilla(*np.exp(theta)).loss(n, d))
        r = L - np.exp(predicted) if estimator.space == "linear" else points.log_L - predicted
        return 1e3 * float(estimator.rho(r).sum())

    best = min(
        minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 6000}).fun
        for start in starting_points(Chinchilla, points, 2)
    )
    assert 1e3 * found.objective <= best * (1 + 1e-7)


@pytest.mark.parametrize("form", [Chinchilla, QForm])
@pytest.mark.parametrize("name", ["S4", "S5"])
def test_least_absolute_deviations_satisfy_their_optimality_conditions(name, form):
    """At an L1 minimum some multipliers in [-1, 1] of the runs passed through balance the signs of the others."""
    N, D, L = study(name)
    found = fit(form, N, D, L, L1)
    through = np.abs(found.residuals) < 1e-9
    J, k, m = found.jacobian, len(found.theta), through.sum()
    assert k - 1 <= m <= k
    pull = J[~through].T @ np.sign(found.residuals[~through])
    balance = np.vstack([np.c_[J[through].T, -np.ones(k)], np.c_[-J[through].T, -np.ones(k)]])
    bounds = [(-1, 1)] * m + [(0, None)]
    solved = linprog(np.r_[np.zeros(m), 1.0], A_ub=balance, b_ub=np.r_[-pull, pull], bounds=bounds)
    assert solved.x[-1] < 1e-7 * np.abs(J).sum()


def test_least_absolute_deviations_of_many_runs_balance_their_signs():
    """6,000 runs: the signs of the residuals pull with no more than the few runs near the law can balance."""
    random = np.random.default_rng(0)
    N, D = np.exp(random.uniform(9, 14, 6000)), np.exp(random.uniform(11, 15, 6000))
    found = fit(Chinchilla, N, D, ADDITIVE_TRUTH.loss(N, D) * np.exp(0.01 * random.standard_normal(6000)), L1)
    assert found.status == "converged"
    pull = np.abs(found.jacobian.T @ np.sign(found.residuals))
    assert (pull < 100 * np.abs(found.jacobian).max(axis=0)).all()
    assert found.law.alpha == pytest.approx(ADDITIVE_TRUTH.alpha, rel=0.03)


def test_an_adaptive_delta_is_its_own_fixed_point():
    N, D, L = study("S5")
    found = fit(QForm, N, D, L)
    expected = 1.345 * 1.4826 * np.median(np.sort(np.abs(found.residuals))[6:])
    assert found.estimator.delta == pytest.approx(expected, rel=5e-3)
    again = fit(QForm, N, D, L, Huber(found.estimator.delta))
    assert again.objective == pytest.approx(found.objective, rel=1e-9)


def test_runs_above_the_law_pull_an_asymmetric_fit_less():
    N, D, _ = study("S5")
    random = np.random.default_rng(0)
    tuned = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.001 * random.standard_normal(len(N)))
    L = tuned * np.exp(np.where(random.random(len(N)) < 0.3, 0.03 * random.random(len(N)), 0.0))
    error = {
        estimator.text: np.mean(np.log(fit(Chinchilla, N, D, L, estimator).law.loss(N, D) / ADDITIVE_TRUTH.loss(N, D)))
        for estimator in (Huber(0.002), asymmetric(0.1, 0.002), L2)
    }
    symmetric, one_sided, squares = error.values()
    assert abs(one_sided) < abs(symmetric) < abs(squares)


def test_same_input_same_bytes_in_any_order():
    N, D, L = study("S4")
    first, second, third = fit(QForm, N, D, L), fit(QForm, N, D, L), fit(QForm, N[::-1], D[::-1], L[::-1])
    assert first.theta.tobytes() == second.theta.tobytes()
    assert first.objective == pytest.approx(third.objective, rel=1e-10)


@pytest.mark.parametrize("estimator", [Huber(1e-3), L1, L2], ids=lambda estimator: estimator.text)
def test_weight_zero_is_the_same_as_leaving_out(estimator):
    N, D, L = study("S4")
    kept = N > N.min()
    points = centred_points(N, D, L)
    start = starting_points(Chinchilla, points, 8)
    weighted = minimise(Chinchilla, points, start, estimator, np.tile(kept.astype(float), (8, 1)))
    alone = fit(Chinchilla, N[kept], D[kept], L[kept], estimator)
    assert weighted.objective.min() == pytest.approx(alone.objective, rel=1e-8)


def test_replicates_do_not_bend_the_law():
    """Every (N, D) counts once: tripling the runs of one size leaves the fit where it was."""
    N, D, L = study("S4")
    times = 1 + 2 * (np.arange(len(N)) % 5 == 1)
    table = [np.repeat(column, times) for column in (N, D, L)]
    weighted = fit(QForm, *table, L2, cell_weights(*table[:2]))
    assert weighted.rms == pytest.approx(fit(QForm, N, D, L, L2).rms, rel=1e-8)


def test_held_parameters_stay_and_the_others_keep_inside_their_bounds():
    N, D, L = study("S4")
    points = centred_points(N, D, L)
    low, high = log_bounds(QForm, points)
    theta = minimise(QForm, points, np.tile(high + 5.0, (2, 1)), L2, max_steps=50).theta
    assert (theta >= low).all()
    assert (theta <= high).all()
    free = np.array([True, True, False, True, True, False])
    held = minimise(QForm, points, fit(QForm, N, D, L, L2).theta[None] + 0.1, L2, free=free).theta[0]
    np.testing.assert_array_equal(held[~free], (fit(QForm, N, D, L, L2).theta + 0.1)[~free])


@pytest.mark.parametrize(
    ("sizes", "tokens", "reason"),
    [
        ([10_000, 40_000, 90_000], (100_000,) * 2, "1 distinct D; the law chinchilla needs 3"),
        ([10_000], tuple(100_000 * 2**k for k in range(8)), "1 distinct N; the law chinchilla needs 3"),
        ([10_000, 40_000], tuple(100_000 * 2**k for k in range(6)), "2 distinct N; the law chinchilla needs 3"),
    ],
)
def test_too_small_a_design_is_refused(sizes, tokens, reason):
    N, D = grid(sizes, tokens)
    found = fit(Chinchilla, N, D, ADDITIVE_TRUTH.loss(N, D) * np.exp(0.001 * np.cos(np.arange(len(N)))))
    assert (found.status, found.identified) == ("not_identified", False)
    assert found.reason == reason


def test_five_points_for_five_parameters_are_refused():
    N, D = np.array([1e4, 2e4, 4e4, 8e4, 3e5]), np.array([8e5, 1e5, 4e5, 1.6e6, 2e5])
    found = fit(Chinchilla, N, D, ADDITIVE_TRUTH.loss(N, D))
    assert found.reason == "5 distinct (N, D), 5 parameters need 6"


@pytest.mark.parametrize("exponents", [(0.35, 0.35), (0.34, 0.28)])
def test_a_collinear_design_is_refused(exponents):
    N = np.geomspace(1e4, 1e6, 30)
    law = Chinchilla(E=1.0, A=100.0, alpha=exponents[0], B=300.0, beta=exponents[1])
    found = fit(Chinchilla, N, 20 * N, law.loss(N, 20 * N) * np.exp(0.001 * np.cos(np.arange(30))))
    assert found.status == "not_identified"
    assert "collinear" in found.reason


def test_one_variable_needs_no_second():
    C = np.geomspace(1e18, 1e22, 12)
    law = SaturatingC(E=1.7, A=1000.0, gamma=0.15)
    found = fit(SaturatingC, C / 6, np.ones(12), law.loss(C / 6, 1.0))
    assert found.law.gamma == pytest.approx(0.15, rel=1e-6)


def test_a_parameter_on_its_bound_is_named():
    N, D, _ = study("S5")
    law = Chinchilla(E=1e-9, A=20.0, alpha=0.25, B=20.0, beta=0.25)
    found = fit(Chinchilla, N, D, law.loss(N, D))
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
        fit(Chinchilla, **table)


def test_columns_that_are_missing_or_uneven_are_refused():
    N, D, L = study("S4")
    with pytest.raises(ValueError, match="N, D, L, weights: different numbers of runs"):
        fit(Chinchilla, N, D[:-1], L)
    with pytest.raises(ValueError, match="recipe: the law two_recipes needs this column"):
        fit(type(TRUTHS[-1]), N, D, L)
    with pytest.raises(ValueError, match="no runs to fit"):
        fit(Chinchilla, [], [], [])


def test_estimators_are_named_and_refuse_nonsense():
    assert estimator_named("Huber", 1e-3).text == "Huber, delta = 0.001 on ln L, summed over runs"
    for name, delta, message in (
        ("l1", 0.1, "--delta: 0.1 given, but estimator l1 has no delta"),
        ("tukey", None, "--estimator: 'tukey' is none of"),
        ("huber", -1.0, "estimator: delta: -1.0 is not positive"),
    ):
        with pytest.raises(ValueError, match=message):
            estimator_named(name, delta)


@pytest.mark.parametrize("estimator", [Huber(), Huber(1e-3), L1], ids=lambda estimator: estimator.text)
@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_one_wrong_loss_moves_no_robust_fit(estimator, factor):
    """Neither does it bound E, when it is the least of all, nor draw the starts to itself."""
    N, D, _ = study("S5")
    for seed in range(5):
        random = np.random.default_rng(seed)
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        clean = fit(Chinchilla, N, D, L, estimator)
        L[random.integers(len(N))] *= factor
        found = fit(Chinchilla, N, D, L, estimator)
        assert found.status == "converged"
        assert found.law.alpha == pytest.approx(clean.law.alpha, rel=0.1)
        assert found.law.loss(2 * N.max(), 2 * D.max()) == pytest.approx(
            clean.law.loss(2 * N.max(), 2 * D.max()), rel=0.02
        )


@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 0.05), (0.05, 0.3), (0.03, 0.8)])
@pytest.mark.parametrize("E", [0.0, 1.7])
def test_curved_valleys_are_followed_to_their_end(alpha, beta, E):
    """Small exponents take hundreds of steps; with E = 0 it ends on the edge of its range, the rest at the truth."""
    N, D = (part.ravel() for part in np.meshgrid(np.geomspace(3e7, 1e10, 6), np.geomspace(1e9, 3e11, 5)))
    L = E + (N / N.mean()) ** -alpha + 0.7 * (D / D.mean()) ** -beta
    found = fit(Chinchilla, N, D, L)
    assert found.status == ("converged" if E else "bound:E")
    assert found.law.alpha == pytest.approx(alpha, rel=1e-3)
    assert found.law.beta == pytest.approx(beta, rel=1e-3)


@pytest.mark.parametrize("sd", [1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("estimator", [Huber(), L2, L2_LINEAR], ids=lambda estimator: estimator.text)
def test_precise_tables_end_at_their_minimum(estimator, sd):
    """Rounding of the objective, not its size alone, says when a step promises nothing."""
    N, D = (part.ravel() for part in np.meshgrid(np.geomspace(3e7, 1e10, 3), np.geomspace(1e9, 3e11, 5)))
    for seed in range(20):
        noise = np.exp(sd * np.random.default_rng(seed).standard_normal(len(N)))
        L = 100 * Chinchilla(1.8, 480.0, 0.35, 2100.0, 0.37).loss(N, D) * noise
        assert fit(Chinchilla, N, D, L, estimator).status == "converged", seed
