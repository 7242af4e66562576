"""Proves that influence is what fitting the reduced table gives, and Cook's own distance where the law is linear.

The references are `fit` on the table without a group, the hat matrix of linear least squares, and planted bad runs.
"""

import numpy as np
import pytest

from pipeline.fitting.estimators import L1, L2, L2_LINEAR, Huber
from pipeline.fitting.influence import influence, noise
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.points import cell_weights
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import bootstrap

TRUTH = Chinchilla(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
TARGET = (1e10, 1e11)


def table(num_sizes=6, num_tokens=6, sd=0.005, seed=0):
    N, D = (a.ravel() for a in np.meshgrid(np.geomspace(1e6, 1e9, num_sizes), np.geomspace(1e8, 3e10, num_tokens)))
    return N, D, TRUTH.loss(N, D) * np.exp(sd * np.random.default_rng(seed).standard_normal(len(N)))


@pytest.mark.parametrize("estimator", [L2, Huber(0.004), L1, L2_LINEAR])
def test_changes_are_those_of_fits_to_the_reduced_table(estimator):
    N, D, L = table()
    found = fit(Chinchilla, N, D, L, estimator)
    result = influence(found, target=TARGET)
    assert sorted(result.label) == list(range(len(N)))
    assert np.all(np.diff(np.abs(result.target_change)) <= 0)
    for row in (0, 1, 17, 35):
        kept = np.arange(len(N)) != result.label[row]
        again = fit(Chinchilla, N[kept], D[kept], L[kept], estimator).law
        expected = [getattr(again, name) - getattr(found.law, name) for name in result.names]
        np.testing.assert_allclose(result.change[row], expected, rtol=1e-4, atol=1e-6)
        moved = np.log(again.loss(*TARGET)) - np.log(found.law.loss(*TARGET))
        assert result.target_change[row] == pytest.approx(float(moved), rel=1e-4, abs=1e-8)


def test_groups_are_left_out_whole_and_weights_kept():
    N, D, L = table(num_sizes=5)
    N, D, L = np.concatenate([N, N[:6]]), np.concatenate([D, D[:6]]), np.concatenate([L, L[:6] * 1.004])
    weights = cell_weights(N, D)
    found = fit(Chinchilla, N, D, L, L2, weights=weights)
    result = influence(found, groups=np.round(np.log10(N), 3))
    assert len(result.label) == 5
    assert result.target_change is None
    assert np.all(np.diff(result.cook) <= 0)
    kept = np.round(np.log10(N), 3) != result.label[0]
    again = fit(Chinchilla, N[kept], D[kept], L[kept], L2, weights=weights[kept]).law
    np.testing.assert_allclose(
        result.change[0], [getattr(again, n) - getattr(found.law, n) for n in result.names], 1e-5
    )


def test_cook_is_cooks_where_the_law_is_all_but_linear():
    N, D, L = table(sd=1e-5)
    found = fit(Chinchilla, N, D, L, L2)
    J, k = found.jacobian, 5
    leverage = np.einsum("nk,kl,nl->n", J, np.linalg.inv(J.T @ J), J)
    variance = np.sum(found.residuals**2) / (len(N) - k)
    expected = found.residuals**2 / (k * variance) * leverage / (1 - leverage) ** 2
    result = influence(found)
    np.testing.assert_allclose(result.cook, expected[result.label], rtol=2e-3, atol=1e-6)


def test_a_bad_run_at_the_edge_comes_first_and_in_standard_errors():
    N, D, L = table(seed=1)
    L[35] *= 1.03
    found = fit(Chinchilla, N, D, L, L2)
    draws = bootstrap(found, np.arange(len(N)), 200, seed=0)
    raw, scaled = influence(found, target=TARGET), influence(found, target=TARGET, draws=draws)
    assert raw.label[0] == scaled.label[0] == 35
    assert scaled.in_errors
    errors = draws.standard_errors()
    np.testing.assert_allclose(scaled.change * [errors[name] for name in scaled.names], raw.change, rtol=1e-12)
    spread = draws.log_loss([TARGET[0]], [TARGET[1]]).std(ddof=1)
    np.testing.assert_allclose(scaled.target_change * spread, raw.target_change, rtol=1e-12)


@pytest.mark.parametrize("estimator", [L2, L2_LINEAR, Huber(0.02)])
def test_one_step_agrees_with_refits(estimator):
    N, D, L = table(21, 20, seed=2)
    found = fit(Chinchilla, N, D, L, estimator)
    result = influence(found, target=TARGET)
    assert "one Newton step" in result.method
    for row in (0, 3, 200):
        kept = np.arange(len(N)) != result.label[row]
        again = fit(Chinchilla, N[kept], D[kept], L[kept], estimator).law
        moved = float(np.log(again.loss(*TARGET)) - np.log(found.law.loss(*TARGET)))
        assert result.target_change[row] == pytest.approx(moved, rel=0.05)


def test_a_group_without_which_nothing_is_determined_comes_first_as_nan():
    N, D, L = table(3, 6)
    result = influence(fit(Chinchilla, N, D, L, L2), groups=D > 1e9, target=TARGET)
    assert np.isfinite(result.target_change).all()
    result = influence(fit(Chinchilla, N, D, L, L2), groups=N > 1e7, target=TARGET)
    assert np.isnan(result.change[0]).all()
    assert np.isinf(result.cook[0])


def test_noise_of_gaussian_residuals_is_their_variance():
    N, D, L = table(20, 20, seed=3)
    for estimator, tolerance in ((L2, 0.15), (Huber(), 0.15)):
        assert noise(fit(Chinchilla, N, D, L, estimator)).variance == pytest.approx(0.005**2, rel=tolerance)
    assert noise(fit(Chinchilla, N, D, L, L1)).variance == pytest.approx(0.005**2 * np.pi / 2, rel=0.25)
    found = fit(Chinchilla, N, D, L, L2)
    assert noise(found).variance == pytest.approx(found.objective / (len(N) - 5), rel=1e-12)


def test_refusals():
    N, D, L = table(21, 20)
    with pytest.raises(ValueError, match="groups: shape"):
        influence(fit(Chinchilla, N, D, L, L2), groups=[1, 2])
    with pytest.raises(ValueError, match="420 groups of 420 runs are too many to refit by L1"):
        influence(fit(Chinchilla, N, D, L, L1))
