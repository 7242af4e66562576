"""Proves the structured covariance against the dense matrix it stands for, on random tables of trees and cells."""

import numpy as np
import pytest

from pipeline.fitting.tree_noise import TreeNoise

TABLES = {
    "a tree a seed, as cooldowns branch": [(size, tokens, 10 * size + seed) for size in range(4) for tokens in range(5)
                                           for seed in range(3) if (size + seed) % 3],
    "each run its own tree": [(size, tokens, 100 * size + 10 * tokens + seed) for size in range(3)
                              for tokens in range(4) for seed in range(2)],
    "trees over several sizes": [(size, tokens, (size + 2 * tokens) % 4) for size in range(5) for tokens in range(4)],
}  # fmt: skip


def table(name):
    size, tokens, tree = np.array(TABLES[name]).T
    cell = np.unique(10 * size + tokens, return_inverse=True)[1].reshape(-1)
    order = np.random.default_rng(len(cell)).permutation(len(cell))
    return cell[order], tree[order]


def dense(noise):
    return noise.own**2 * np.eye(len(noise.tree)) + noise.shared**2 * (noise.tree[:, None] == noise.tree)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("shared", [0.0, 0.02, 5.0])
def test_whitened_means_have_the_products_of_the_dense_inverse(name, shared):
    cell, tree = table(name)
    noise, random = TreeNoise(0.01, shared, tree), np.random.default_rng(3)
    columns = random.standard_normal((len(cell), 3))
    mean = (cell == np.arange(cell.max() + 1)[:, None]) / np.bincount(cell)[:, None]
    V = mean @ dense(noise) @ mean.T
    expected = (mean @ columns).T @ np.linalg.solve(V, mean @ columns)
    white = noise.whitened_means(cell, columns)
    np.testing.assert_allclose(white.T @ white, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", TABLES)
def test_the_variance_of_a_sum_is_that_of_the_dense_matrix(name):
    _, tree = table(name)
    weights = np.random.default_rng(4).standard_normal(len(tree))
    for noise in (TreeNoise(0.3, 0.5, tree), TreeNoise.independent(0.3, len(tree))):
        assert noise.variance(weights) == pytest.approx(weights @ dense(noise) @ weights, rel=1e-12)


def test_runs_without_noise_of_their_own_are_refused():
    with pytest.raises(ValueError, match=r"^own: 0.0 is not a positive sd$"):
        TreeNoise(0.0, 1.0, np.arange(2)).whitened_means(np.arange(2), np.ones((2, 1)))
