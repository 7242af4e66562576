"""Proves seed noise against its definition and against known noise between and within trees."""

import numpy as np
import pytest

from pipeline.fitting.seed_noise import seed_noise
from tests.fitting.measured_studies import study


def test_seed_noise_is_pooled_over_cells():
    L = np.exp([0.1, 0.3, 0.5, 0.5, 0.8, 1.1, 2.0])
    size, tokens = [1, 1, 1, 1, 2, 2, 3], [5, 5, 6, 6, 5, 5, 5]
    noise = seed_noise(L, size, tokens, list("abcdefg"))
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


@pytest.mark.parametrize(("own", "shared"), [(0.003, 0.0), (0.001, 0.003), (0.0, 0.003)])
def test_the_freedom_is_that_of_the_spread_of_the_variance(own, shared):
    """A variance known from f degrees of freedom scatters by sqrt(2 / f) of itself, over simulated studies."""
    random = np.random.default_rng(0)
    size, tokens, seed = (values.ravel() for values in np.meshgrid(range(3), range(5), range(3)))
    variances, freedoms = [], []
    for _ in range(2000):
        offset = shared * random.standard_normal((3, 3))
        noise = seed_noise(
            np.exp(offset[size, seed] + own * random.standard_normal(len(size))), size, tokens, size * 10 + seed
        )
        variances.append(noise.sd**2)
        freedoms.append(noise.degrees_of_freedom)
    scatter = np.std(variances) / np.mean(variances)
    assert np.median(freedoms) == pytest.approx(2 / scatter**2, rel=0.15)


def test_without_replicates_there_is_no_seed_noise():
    N, D, L = study("S5")
    assert seed_noise(L, N, D, N) is None


@pytest.mark.parametrize("seed", range(6))
def test_the_two_way_layout_is_that_of_dense_least_squares(seed):
    """Unbalanced tables, some of them in several parts that share no tree, against lstsq on all indicators at once."""
    random = np.random.default_rng(seed)
    rows = np.unique(random.integers(0, (4, 6, 3), (50, 3)), axis=0)
    size, tokens, seeds = rows.T
    tree = 10 * size + seeds if seed % 2 else seeds
    log_L = random.standard_normal(len(rows)) * 0.01
    noise = seed_noise(np.exp(log_L), size, tokens, tree)
    cell = 10 * size + tokens
    kept = np.isin(
        cell, [label for label, count in zip(*np.unique(cell, return_counts=True), strict=True) if count > 1]
    )
    design = np.hstack([labels[kept][:, None] == np.unique(labels[kept]) for labels in (cell, tree)]).astype(float)
    rank = np.linalg.matrix_rank(design)
    left = log_L[kept] - design @ np.linalg.pinv(design) @ log_L[kept]
    assert noise.within_tree_degrees_of_freedom == kept.sum() - rank > 0
    assert noise.within_tree_sd == pytest.approx(np.sqrt(left @ left / (kept.sum() - rank)), rel=1e-10)


def test_runs_from_scratch_have_nothing_within_a_tree():
    noise = seed_noise(np.exp([0.1, 0.3, 0.2, 0.5]), [1, 1, 2, 2], [5, 5, 5, 5], ["a", "b", "c", "d"])
    assert noise.within_tree_sd is None
    assert noise.within_tree_degrees_of_freedom == 0
