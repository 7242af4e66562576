"""Representations: estimates against direct sums, all permutations and scipy, and every verdict that can occur."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from scipy.spatial import cKDTree

from pipeline.experiments.laws.representations import at_random, cka, dimension, hsic, judge, plain_hsic, shared
from tests.experiments.laws.bench import dials, read_laws, try_law

QUICK = {"widths": [16, 48, 128], "num_steps": 150, "held_out": 400, "samples": [20, 60, 100, 200]}
IDLE = {"seeds": [0, 1], "widths": [16, 32, 64], "width": 16, "num_steps": 1}


@pytest.fixture(scope="module")
def tried():
    return try_law("representations", **QUICK)


def two_kernels(m, seed=0):
    """Kernels of two related representations of m inputs."""
    random = np.random.default_rng(seed)
    one = random.normal(size=(m, 4)) + 2
    two = one @ random.normal(size=(4, 3)) + random.normal(size=(m, 3))
    return one @ one.T, two @ two.T


def test_hsic_is_the_mean_over_distinct_inputs():
    m = 7
    K, L = two_kernels(m)
    terms = [K[i, j] * (L[i, j] + L[k, l] - 2 * L[i, k]) for i, j, k, l in permutations(range(m), 4)]
    assert hsic(K, L) == pytest.approx(np.mean(terms), rel=1e-10)


def test_plain_hsic_is_that_of_centred_kernels():
    K, L = two_kernels(9)
    H = np.eye(9) - 1 / 9
    assert plain_hsic(K, L) == pytest.approx(np.trace(K @ H @ L @ H) / 64, rel=1e-10)


def test_over_all_pairings_the_plain_mean_counts_directions_and_the_unbiased_one_is_zero():
    m = 6
    K, L = two_kernels(m)
    shuffled = [L[np.ix_(order, order)] for order in map(list, permutations(range(m)))]
    H = np.eye(m) - 1 / m
    K_dim, L_dim = (np.trace(H @ one @ H) ** 2 / np.sum((H @ one @ H) ** 2) for one in (K, L))
    plain = np.mean([cka(K, one, plain_hsic) for one in shuffled])
    assert plain == pytest.approx(np.sqrt(K_dim * L_dim) / (m - 1), rel=1e-10)
    assert np.mean([hsic(K, one) for one in shuffled]) == pytest.approx(0, abs=1e-10 * np.abs(K).max() ** 2)


@pytest.mark.parametrize("m", [30, 60, 240])
def test_the_mean_at_random_is_that_of_unrelated_gaussian_inputs(m):
    random, scales = np.random.default_rng(m), np.array([2.0, 1.5, 1.0, 1.0, 0.5])
    found = []
    for _ in range(300):
        one, two = (random.normal(size=(m, 5)) * scales for _ in range(2))
        found.append(cka(one @ one.T, two @ two.T, plain_hsic))
    spanned = (scales**2).sum() ** 2 / (scales**4).sum()
    assert np.mean(found) == pytest.approx(at_random(spanned, m), rel=0.05)


def test_the_number_of_directions_is_that_of_the_covariance():
    scales = np.array([2.0, 1.5, 1.0, 1.0, 0.5])
    features = 3 + np.random.default_rng(1).normal(size=(3000, 5)) * scales
    assert dimension(features @ features.T) == pytest.approx((scales**2).sum() ** 2 / (scales**4).sum(), rel=0.03)


def test_alignment_ignores_rotation_scale_and_shift_but_no_other_map():
    random = np.random.default_rng(2)
    one = random.normal(size=(40, 6))
    turn = np.linalg.qr(random.normal(size=(6, 6)))[0]
    K, moved, bent = (own @ own.T for own in (one, 3 * one @ turn + 5, one @ np.diag([9, 1, 1, 1, 1, 1])))
    for estimate in (hsic, plain_hsic):
        assert cka(K, moved, estimate) == pytest.approx(1, abs=1e-8)
        assert cka(K, bent, estimate) < 0.8
    assert shared(K, moved, 5) == 1


def test_mutual_neighbours_are_those_of_a_tree():
    random, k = np.random.default_rng(4), 6
    one = random.normal(size=(70, 5))
    two = one[:, :3] + 0.5 * random.normal(size=(70, 3))
    nearest = [cKDTree(own).query(own, k + 1)[1][:, 1:] for own in (one, two)]
    both = np.mean([len(set(left) & set(right)) / k for left, right in zip(*nearest, strict=True)])
    assert shared(one @ one.T, two @ two.T, k) == pytest.approx(both, abs=1e-12)


def test_the_law_holds_the_null_lies_where_predicted_and_the_controls_fail(tried):
    verdicts = {one.law: (one.role, one.verdict) for one in tried.judgement.findings}
    assert verdicts["order of CKA"] == ("law", "holds")
    assert verdicts["alignment grows with width"] == ("law", "holds")
    assert verdicts["plain CKA at random"] == ("boundary", "holds")
    assert {verdict for role, verdict in verdicts.values() if role == "control"} == {"violated"}


def test_without_training_the_order_does_not_hold():
    idle = try_law("representations", **QUICK | IDLE)
    assert idle.finding("order of CKA").verdict != "holds"


def judged(tried, **columns):
    """Law -> finding if columns of the runs had been these."""
    found = judge(tried.settings, tried.runs.with_columns(**columns), tried.curves).findings
    return {one.law: one for one in found}


def test_alignment_that_is_the_same_at_every_width_has_no_rank(tried):
    same = judged(tried, trained=pl.lit(0.8))["alignment grows with width"]
    assert (same.verdict, same.measured) == ("undetermined", None)
    assert "is not defined: CKA does not vary" in same.statement


def test_the_regime_in_the_width_is_that_of_the_runs_that_have_a_value(tried):
    narrow = pl.col("width") == 16
    found = judged(tried, trained=pl.when(~narrow).then("trained"))
    spans = {law: one.regime[0] for law, one in found.items() if one.regime and one.regime[0].variable == "width"}
    assert {law: (span.low, span.high) for law, span in spans.items()} == {
        "alignment grows with width": (48, 128),
        "alignment of untrained networks": (16, 128),
    }


def test_samples_that_are_all_many_do_not_reach_the_null():
    many = try_law("representations", **QUICK | IDLE | {"width": 4, "samples": [190, 200]})
    assert many.finding("plain CKA at random", "boundary").verdict == "not_reached"


def test_the_same_run_gives_the_same_bits():
    first, again = (try_law("representations", **QUICK | IDLE | {"num_steps": 20}) for _ in range(2))
    assert again.runs.equals(first.runs)
    assert again.curves.equals(first.curves)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"laws\.representations\.seeds: List should have at least 2 items"),
        ({"num_classes": 1}, r"laws\.representations\.num_classes: .*greater than or equal to 2"),
        ({"widths": [16, 32]}, r"widths: List should have at least 3 items"),
        ({"widths": [16, 0, 64]}, r"widths\.1: .*greater than 0"),
        ({"held_out": 600}, r"held_out: 600 is not twice the largest of neighbours and samples"),
        ({"samples": [4, 100]}, r"samples\.0: .*greater than or equal to 10"),
        ({"samples": []}, r"samples: List should have at least 2 items"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"representations": dials("representations") | changed})
