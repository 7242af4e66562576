"""Proves that the search for a lower cut-off finds a planted break, and the convexity test a planted bend."""

import numpy as np
import pytest

from pipeline.fitting.cutoffs import convex_floor, convexity, cutoffs, largest_accepted
from pipeline.fitting.estimators import L2
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.solver import fit
from tests.fitting.measured_studies import ADDITIVE_TRUTH, study

SD = 0.003


def noisy(seed: int):
    N, D, _ = study("S5")
    return N, D, ADDITIVE_TRUTH.loss(N, D) * np.exp(SD * np.random.default_rng(seed).standard_normal(len(N)))


def test_a_law_that_holds_keeps_every_run():
    N, D, L = noisy(0)
    accepted = largest_accepted(cutoffs(fit(Chinchilla, N, D, L, L2), N, D, SD), 0.0, 0.0)
    assert accepted.num_points == 30
    assert (accepted.N_min, accepted.D_min) == (N.min(), D.min())


def test_a_planted_break_at_the_smallest_size_is_cut():
    N, D, L = noisy(0)
    L = np.where(N.min() == N, L * 1.05, L)
    accepted = largest_accepted(cutoffs(fit(Chinchilla, N, D, L, L2), N, D, SD), 0.0, 0.0)
    assert (accepted.N_min, accepted.D_min) == (np.unique(N)[1], D.min())


def test_a_subset_is_the_fit_of_its_runs():
    N, D, L = noisy(1)
    for part in cutoffs(fit(Chinchilla, N, D, L, L2), N, D, SD):
        kept = (N >= part.N_min) & (D >= part.D_min)
        assert part.rms == pytest.approx(fit(Chinchilla, N[kept], D[kept], L[kept], L2).rms, rel=1e-6)
        assert part.num_points == kept.sum()
        assert min(part.num_sizes, part.num_tokens) >= 4


def test_floors_restrict_the_choice():
    N, D, L = noisy(0)
    subsets = cutoffs(fit(Chinchilla, N, D, L, L2), N, D, SD)
    assert largest_accepted(subsets, np.unique(N)[1], 0.0).N_min == np.unique(N)[1]
    assert largest_accepted(subsets, 1e9, 0.0) is None


def test_a_grid_too_small_to_cut_gives_no_subset():
    N, D, L = noisy(0)
    few = (N <= np.unique(N)[2]) & (D <= np.unique(D)[3])
    assert cutoffs(fit(Chinchilla, N[few], D[few], L[few], L2), N[few], D[few], SD) == []


def test_the_standard_error_of_a_bend_for_equal_steps():
    N, D = np.full(3, 1e5), np.array([1e6, 2e6, 4e6])
    (bend,) = convexity(N, D, np.exp([1.0, 0.9, 0.7]), sd_along_N=1.0, sd_along_D=0.01)
    assert bend.variable == "D"
    assert bend.exponent_below == pytest.approx(0.1 / np.log(2))
    assert bend.z == pytest.approx((0.1 / np.log(2)) / (0.01 * np.sqrt(6) / np.log(2)))


def test_a_convex_surface_has_no_floor():
    N, D, _ = study("S5")
    bends = convexity(N, D, ADDITIVE_TRUTH.loss(N, D), SD, SD)
    assert max(bend.z for bend in bends) < 0
    assert (convex_floor(bends, "N"), convex_floor(bends, "D")) == (None, None)


def test_a_plateau_at_the_smallest_tokens_raises_the_floor():
    N, D, _ = study("S5")
    L = ADDITIVE_TRUTH.loss(N, np.maximum(D, np.unique(D)[1]))
    L = np.where(D.min() == D, L * 1.001, L)
    bends = convexity(N, D, L, SD, SD)
    assert convex_floor(bends, "D") == np.unique(D)[1]
    assert convex_floor(bends, "N") is None


def test_subsets_of_a_large_table_keep_the_test_of_all_their_runs():
    """4,608 runs, thinned for refits: chi2 against that of a full fit to the runs of each subset, to 1 % of its sd."""
    sizes, tokens = np.geomspace(1e5, 1e7, 96), np.geomspace(1e6, 1e8, 48)
    N, D = (axis.ravel() for axis in np.meshgrid(sizes, tokens))
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(SD * np.random.default_rng(2).standard_normal(len(N)))
    subsets = cutoffs(fit(Chinchilla, N, D, L, L2), N, D, SD, num_levels=4)
    assert len(subsets) > 4
    for part in subsets:
        kept = (N >= part.N_min) & (D >= part.D_min)
        again = fit(Chinchilla, N[kept], D[kept], L[kept], L2)
        assert part.num_points == kept.sum()
        spread = np.sqrt(2 * part.lack_of_fit.degrees_of_freedom)
        assert part.lack_of_fit.chi2 == pytest.approx(np.sum(again.residuals**2) / SD**2, abs=0.01 * spread)
    bent = np.where(sizes[47] >= N, L * 1.01, L)
    accepted = largest_accepted(cutoffs(fit(Chinchilla, N, D, bent, L2), N, D, SD), 0.0, 0.0)
    assert accepted.N_min > sizes[47]
