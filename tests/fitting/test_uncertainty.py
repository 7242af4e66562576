"""Proves resampling against its definition, interval coverage on a known law, and seed noise against known noise."""

import numpy as np
import pytest

from pipeline.fitting.forms import Additive
from pipeline.fitting.points import cells
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import bootstrap, percentile_interval, resample_weights, seed_noise
from tests.fitting.measured_studies import ADDITIVE_TRUTH, study


def test_a_resample_draws_whole_clusters():
    clusters = np.array([0, 0, 1, 2, 2, 2, 3])
    weights = resample_weights(clusters, 200, seed=1, fewest=2)
    for label in range(4):
        assert np.ptp(weights[:, clusters == label], axis=1).max() == 0
    assert (weights[:, [0, 2, 3, 6]].sum(axis=1) == 4).all()
    assert ((weights[:, [0, 2, 3, 6]] > 0).sum(axis=1) >= 2).all()
    assert np.array_equal(weights, resample_weights(clusters, 200, seed=1, fewest=2))


def test_too_few_clusters_are_refused():
    with pytest.raises(ValueError, match="clusters: 3 distinct, at least 6 are needed"):
        resample_weights(np.array([0, 1, 2]), 100, seed=0, fewest=6)


def test_a_resample_is_the_fit_of_repeated_runs():
    N, D, L = study("S5")
    draws = bootstrap(fit(Additive, N, D, L), cells(N, D), 3, seed=4)
    weights = resample_weights(cells(N, D), 3, seed=4, fewest=5).astype(int)
    for theta, times in zip(draws.theta, weights, strict=True):
        again = fit(Additive, *(np.repeat(column, times) for column in (N, D, L)))
        np.testing.assert_allclose(np.exp(theta), np.exp(again.law.theta), rtol=1e-5)


def test_interval_coverage_on_a_known_law():
    """100 studies of 30 runs, noise 0.3 %: a coverage near 95 % has a Monte-Carlo error of 2.2, and 3 are allowed."""
    N, D, _ = study("S5")
    random = np.random.default_rng(5)
    target = 10 * 6 * N.max() * D.max()
    size = ADDITIVE_TRUTH.optimal_size(target)
    truth = {**{name: getattr(ADDITIVE_TRUTH, name) for name in ("E", "alpha", "beta")}}
    truth |= {"a": ADDITIVE_TRUTH.size_exponent, "loss": float(ADDITIVE_TRUTH.loss(size, target / 6 / size)[0])}
    inside = dict.fromkeys(truth, 0)
    for number in range(100):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        draws = bootstrap(fit(Additive, N, D, L, num_starts=8), cells(N, D), 150, seed=number)
        found = draws.intervals() | {
            "a": percentile_interval(draws.size_exponent()),
            "loss": percentile_interval(np.exp(draws.log_loss(size, target / 6 / size))[:, 0]),
        }
        for name, value in truth.items():
            inside[name] += found[name][0] <= value <= found[name][1]
    assert all(95 - 3 * 2.2 <= count <= 100 for count in inside.values()), inside


def test_seed_noise_is_pooled_over_cells():
    L = np.exp([0.1, 0.3, 0.5, 0.5, 0.8, 1.1, 2.0])
    size, tokens = [1, 1, 1, 1, 2, 2, 3], [5, 5, 6, 6, 5, 5, 5]
    noise = seed_noise(L, size, tokens, ["a", "b", "a", "b", "c", "d", "e"])
    assert noise.num_cells == 3
    assert noise.degrees_of_freedom == 3
    assert noise.sd == pytest.approx(np.sqrt((0.02 + 0.0 + 0.045) / 3), rel=1e-12)


def test_noise_between_trees_and_within_a_tree_are_told_apart():
    random = np.random.default_rng(3)
    size, tokens, seed = (values.ravel() for values in np.meshgrid(range(20), range(5), range(3)))
    offset = 0.003 * random.standard_normal((20, 3))
    L = np.exp(1.0 + 0.1 * size + offset[size, seed] + 0.001 * random.standard_normal(len(size)))
    noise = seed_noise(L, size, tokens, size * 10 + seed)
    assert noise.sd == pytest.approx(np.hypot(0.003, 0.001), rel=0.25)
    assert noise.within_tree_sd == pytest.approx(0.001, rel=0.25)
    assert noise.within_tree_degrees_of_freedom == 20 * 4 * 2


def test_without_replicates_there_is_no_seed_noise():
    N, D, L = study("S5")
    assert seed_noise(L, N, D, N) is None
