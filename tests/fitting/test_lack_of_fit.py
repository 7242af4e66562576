"""Proves the lack-of-fit tests by their size on known noise and against direct evaluation."""

import numpy as np
import pytest
from scipy.stats import kstest

from pipeline.fitting.estimators import L2
from pipeline.fitting.lack_of_fit import lack_of_fit
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.points import cell_weights, cells
from pipeline.fitting.seed_noise import SeedNoise
from pipeline.fitting.solver import fit
from pipeline.fitting.tree_noise import TreeNoise
from tests.fitting.measured_studies import ADDITIVE_TRUTH, study


def test_chi2_weighs_a_cell_by_its_seeds():
    residuals, jacobian = [0.01, 0.03, -0.02, 0.0], np.zeros((4, 1))
    test = lack_of_fit(residuals, jacobian, np.array([0, 0, 1, 2]), TreeNoise.independent(0.01, 4), 0.01)
    assert test.chi2 == pytest.approx(2 * 2**2 + 2**2)
    assert test.degrees_of_freedom == 2


def test_no_spare_cell_no_test():
    assert lack_of_fit([0.1, 0.1], np.ones((2, 2)), np.array([0, 1]), TreeNoise.independent(1.0, 2), 1.0) is None


def test_chi2_does_not_depend_on_the_weights_of_the_fit():
    N, D, _ = study("S5")
    N, D = np.repeat(N, 1 + 2 * (N == N.min())), np.repeat(D, 1 + 2 * (N == N.min()))
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(4).standard_normal(len(N)))
    noise = TreeNoise.independent(0.003, len(N))
    fits = [fit(Chinchilla, N, D, L, L2, weights) for weights in (None, cell_weights(N, D))]
    once, twice = (lack_of_fit(one.residuals, one.jacobian, cells(N, D), noise, 0.003).chi2 for one in fits)
    assert once == pytest.approx(twice, rel=1e-3)
    assert fits[0].theta != pytest.approx(fits[1].theta, rel=1e-3)


def test_p_is_uniform_when_the_law_is_true():
    """200 studies with noise of the stated sd: Kolmogorov-Smirnov against the uniform distribution at 1 %."""
    N, D, _ = study("S5")
    random = np.random.default_rng(11)
    p = []
    for _ in range(200):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        found = fit(Chinchilla, N, D, L, L2, num_starts=1)
        p.append(
            lack_of_fit(found.residuals, found.jacobian, cells(N, D), TreeNoise.independent(0.003, len(N)), 0.003).p
        )
    assert kstest(p, "uniform").pvalue > 0.01


def test_chi2_is_a_mahalanobis_distance_after_projection():
    random = np.random.default_rng(2)
    residuals, tree, J = random.standard_normal(7), np.array(list("aaabbcc")), random.standard_normal((7, 2))
    noise = SeedNoise(sd=0.5, degrees_of_freedom=9, num_cells=9, within_tree_sd=0.3, within_tree_degrees_of_freedom=9)
    V = 0.3**2 * np.eye(7) + (0.5**2 - 0.3**2) * (tree[:, None] == tree)
    inverse = np.linalg.inv(V)
    rest = residuals - J @ np.linalg.solve(J.T @ inverse @ J, J.T @ inverse @ residuals)
    test = lack_of_fit(residuals, J, np.arange(7), noise.of_trees(tree), 0.3)
    assert test.chi2 == pytest.approx(rest @ inverse @ rest)
    assert test.degrees_of_freedom == 5


def test_p_is_uniform_when_the_noise_sd_is_measured_too():
    """400 studies whose noise sd comes from 10 further values: F, not chi2, keeps p uniform (KS at 1 %)."""
    random, J = np.random.default_rng(5), np.random.default_rng(6).standard_normal((25, 3))
    exact, naive = [], []
    for _ in range(400):
        sd = float(np.sqrt(np.mean(random.standard_normal(10) ** 2)))
        residuals = random.standard_normal(25)
        for found, freedom in ((exact, 10), (naive, None)):
            found.append(lack_of_fit(residuals, J, np.arange(25), TreeNoise.independent(sd, 25), sd, freedom).p)
    assert kstest(exact, "uniform").pvalue > 0.01
    assert kstest(naive, "uniform").pvalue < 1e-4
