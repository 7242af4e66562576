"""Proves the lack-of-fit tests by their size on known noise, and the hold-out on known and on wrong laws."""

import numpy as np
import pytest
from scipy.stats import kstest

from pipeline.fitting.forms import Additive, QForm
from pipeline.fitting.points import cell_weights, cells
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import SeedNoise
from pipeline.fitting.validation import hold_out, holdout_advantage, lack_of_fit
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, study


def test_chi2_weighs_a_cell_by_its_seeds():
    residuals, jacobian = [0.01, 0.03, -0.02, 0.0], np.zeros((4, 1))
    test = lack_of_fit(residuals, jacobian, np.array([0, 0, 1, 2]), 0.01**2 * np.eye(4), 0.01)
    assert test.chi2 == pytest.approx(2 * 2**2 + 2**2)
    assert test.degrees_of_freedom == 2


def test_no_spare_cell_no_test():
    assert lack_of_fit([0.1, 0.1], np.ones((2, 2)), np.array([0, 1]), np.eye(2), 1.0) is None


def test_chi2_does_not_depend_on_the_weights_of_the_fit():
    N, D, _ = study("S5")
    N, D = np.repeat(N, 1 + 2 * (N == N.min())), np.repeat(D, 1 + 2 * (N == N.min()))
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(4).standard_normal(len(N)))
    covariance = 0.003**2 * np.eye(len(N))
    fits = [fit(Additive, N, D, L, weights=weights) for weights in (None, cell_weights(N, D))]
    once, twice = (lack_of_fit(one.residuals, one.jacobian, cells(N, D), covariance, 0.003).chi2 for one in fits)
    assert once == pytest.approx(twice, rel=1e-3)
    assert fits[0].theta != pytest.approx(fits[1].theta, rel=1e-3)


def test_p_is_uniform_when_the_law_is_true():
    """200 studies with noise of the stated sd: Kolmogorov-Smirnov against the uniform distribution at 1 %."""
    N, D, _ = study("S5")
    random = np.random.default_rng(11)
    p = []
    for _ in range(200):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        found = fit(Additive, N, D, L, num_starts=4)
        p.append(lack_of_fit(found.residuals, found.jacobian, cells(N, D), 0.003**2 * np.eye(len(N)), 0.003).p)
    assert kstest(p, "uniform").pvalue > 0.01


def test_chi2_is_a_mahalanobis_distance_after_projection():
    random = np.random.default_rng(2)
    residuals, tree, J = random.standard_normal(7), np.array(list("aaabbcc")), random.standard_normal((7, 2))
    noise = SeedNoise(sd=0.5, degrees_of_freedom=9, num_cells=9, within_tree_sd=0.3, within_tree_degrees_of_freedom=9)
    V = 0.3**2 * np.eye(7) + (0.5**2 - 0.3**2) * (tree[:, None] == tree)
    np.testing.assert_allclose(noise.covariance(tree), V)
    inverse = np.linalg.inv(V)
    rest = residuals - J @ np.linalg.solve(J.T @ inverse @ J, J.T @ inverse @ residuals)
    test = lack_of_fit(residuals, J, np.arange(7), noise.covariance(tree), 0.3)
    assert test.chi2 == pytest.approx(rest @ inverse @ rest)
    assert test.degrees_of_freedom == 5


def test_the_hold_out_never_sees_the_larger_runs():
    N, D, L = study("S5")
    C = 6 * N * D
    found = hold_out(QForm, N, D, L, C, 0.75, 100, 0)
    changed = np.where(found.test, L * 1.3, L)
    again = hold_out(QForm, N, D, changed, C, 0.75, 100, 0)
    assert found.fit.theta.tobytes() == again.fit.theta.tobytes()
    np.testing.assert_allclose(again.error - found.error, np.log(1.3), rtol=1e-9)
    assert C[found.test].min() > found.threshold >= C[~found.test].max()


def test_prediction_intervals_cover_when_the_law_is_true():
    """40 studies of 8 held-out runs: coverage near 95 % has a Monte-Carlo error of 1.9 points if runs were independent;
    runs of a study share their law, so 3.5 points count as one, and 3 of these are allowed."""
    N, D, _ = study("S5")
    random = np.random.default_rng(8)
    covered = []
    for number in range(40):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        covered.append(hold_out(Additive, N, D, L, N * D, 0.75, 100, number, num_starts=4).coverage)
    assert 0.95 - 3 * 0.035 <= np.mean(covered) <= 1.0


def test_the_true_law_wins_the_hold_out_beyond_noise():
    N, D, _ = study("S5")
    L = Q_TRUTH.loss(N, D) * np.exp(0.002 * np.random.default_rng(0).standard_normal(len(N)))
    simple, rich = (hold_out(form, N, D, L, N * D, 0.75, 100, 0) for form in (Additive, QForm))
    difference, error = holdout_advantage(simple, rich, 0.002**2 * np.eye(len(N)))
    assert difference > 2 * error
    assert rich.rms < simple.rms


def test_equal_laws_seldom_differ_beyond_noise():
    """40 studies in which the q-form contains the truth: at two sd about 5 % may differ; 4 of 40 is the 95 % limit."""
    N, D, _ = study("S5")
    random = np.random.default_rng(1)
    beyond = 0
    for _ in range(40):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        simple, rich = (hold_out(form, N, D, L, N * D, 0.75, 10, 0, num_starts=4) for form in (Additive, QForm))
        difference, error = holdout_advantage(simple, rich, 0.003**2 * np.eye(len(N)))
        beyond += abs(difference) > 2 * error
    assert beyond <= 4


def test_influence_against_refits_to_changed_runs():
    N, D, L = study("S5")
    found = hold_out(QForm, N, D, L, N * D, 0.75, 10, 0)
    changed = L.copy()
    changed[3] *= np.exp(1e-5)
    again = hold_out(QForm, N, D, changed, N * D, 0.75, 10, 0)
    training = int(np.flatnonzero(~found.test).tolist().index(3))
    moved = (again.log_predicted - found.log_predicted) / 1e-5
    np.testing.assert_allclose(moved, found.influence[:, training], rtol=0.1, atol=0.01)


def test_no_hold_out_when_the_rest_does_not_identify_the_law():
    N, D, L = study("S5")
    few = (N <= np.unique(N)[2]) & (D <= np.unique(D)[2])
    assert hold_out(QForm, N[few], D[few], L[few], N[few] * D[few], 0.75, 100, 0) is None
    same = np.full(len(N), 1e12)
    assert hold_out(QForm, N, D, L, same, 0.75, 100, 0) is None
