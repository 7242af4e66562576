"""Proves the optima and laws of learning rate and batch on sweeps with a known optimum, and each refusal by its reason.

A sweep has L = L*(N, D) (1 + h_u u^2 / 2 + h_v v^2 / 2 + h_uv u v) with u, v the logarithms of learning rate and batch
over their optima, which are power laws of N and D; exponents of about the size of arXiv 2503.04715.
"""

import numpy as np
import pytest

from pipeline.fitting.rates import rates

K_RATE, A_RATE, B_RATE, K_BATCH, B_BATCH = 20.0, -0.7, 0.3, 0.6, 0.57
H_U, H_V, H_UV = 0.02, 0.012, 0.004
SIZES, TOKENS = 1e5 * 2.0 ** np.arange(3), 1e7 * 4.0 ** np.arange(3)
FACTORS = 2.0 ** np.array([-3, -2, -1, 0, 1, 2, 3])


def best(N, D):
    return K_RATE * N**A_RATE * D**B_RATE, K_BATCH * D**B_BATCH


def sweep(sizes=SIZES, tokens=TOKENS, rate_factors=FACTORS * 1.3, batch_factors=FACTORS * 0.9, noise=None):
    """(N, D, learning rate, batch, L) of a grid of factors about the optimum, each off-centre."""
    N, D, rate, batch = (x.ravel() for x in np.meshgrid(sizes, tokens, rate_factors, batch_factors, indexing="ij"))
    u, v = np.log(rate), np.log(batch)
    rate, batch = best(N, D)[0] * rate, best(N, D)[1] * batch
    L = (2 + 50 / D**0.2) * (1 + H_U * u**2 / 2 + H_V * v**2 / 2 + H_UV * u * v)
    return N, D, rate, batch, L if noise is None else L * np.exp(noise.standard_normal(len(L)) * 0.002)


def test_a_sweep_of_both_gives_both_laws_back():
    found = rates(*sweep(), num_resamples=50, seed=0)
    rate, batch = found.learning_rate, found.batch
    assert (rate.k, rate.a, rate.b) == pytest.approx((K_RATE, A_RATE, B_RATE), rel=1e-6)
    assert (batch.k, batch.b) == pytest.approx((K_BATCH, B_BATCH), rel=1e-6)
    assert batch.a == pytest.approx(0.0, abs=1e-7)
    assert (rate.num_cells, found.refused) == (9, {})
    assert rate.value(3e5, 2e8) == pytest.approx(best(3e5, 2e8)[0], rel=1e-6)
    assert batch.value(3e5, 2e8) == pytest.approx(best(3e5, 2e8)[1], rel=1e-6)


def test_each_cell_has_its_optimum_and_its_flatness():
    for cell in rates(*sweep(), num_resamples=5, seed=0).cells:
        rate, batch = best(cell.N, cell.D)
        assert (cell.learning_rate, cell.batch) == pytest.approx((rate, batch), rel=1e-8)
        assert cell.loss == pytest.approx(2 + 50 / cell.D**0.2, rel=1e-10)
        for flatness, curvature in ((cell.learning_rate_flatness, H_U), (cell.batch_flatness, H_V)):
            assert curvature * np.log(flatness) ** 2 / 2 == pytest.approx(0.001, rel=1e-6)


@pytest.mark.parametrize(("only", "other"), [("learning_rate", "batch"), ("batch", "learning_rate")])
def test_a_sweep_of_one_gives_only_its_law(only, other):
    one = {"rate_factors": [1.0]} if only == "batch" else {"batch_factors": [1.0]}
    found = rates(*sweep(**one), num_resamples=5, seed=0)
    expected = (A_RATE, B_RATE) if only == "learning_rate" else (0.0, B_BATCH)
    assert (getattr(found, only).a, getattr(found, only).b) == pytest.approx(expected, abs=1e-7)
    assert getattr(found, other) is None
    assert found.refused == {other: f"no (N, D) has 3 levels of {other}"}
    assert {getattr(cell, other) for cell in found.cells} == {None}


@pytest.mark.parametrize(("num_sizes", "num_tokens"), [(2, 2), (3, 3)])
def test_intervals_cover(num_sizes, num_tokens):
    random, covered = np.random.default_rng(0), []
    for seed in range(150):
        table = sweep(SIZES[:num_sizes], TOKENS[:num_tokens], batch_factors=[1.0], noise=random)
        law = rates(*table, num_resamples=200, seed=seed).learning_rate
        covered += [law.a_interval[0] < A_RATE < law.a_interval[1], law.b_interval[0] < B_RATE < law.b_interval[1]]
    assert 0.9 <= np.mean(covered) <= 0.99


def test_an_exponent_whose_variable_does_not_vary_is_left_out():
    law = rates(*sweep(sizes=[3e5]), num_resamples=5, seed=0).learning_rate
    assert (law.a, law.a_interval) == (None, None)
    assert (law.b, law.k) == pytest.approx((B_RATE, K_RATE * 3e5**A_RATE), rel=1e-6)


def test_sizes_and_tokens_that_vary_together_or_not_at_all_have_no_law():
    N, D, rate, batch, L = sweep()
    fixed_ratio = np.isclose(D / N, 100 * np.sqrt(N / 1e5) ** 2)
    found = rates(*(x[fixed_ratio] for x in (N, D, rate, batch, L)), num_resamples=5, seed=0)
    why = "N and D vary together over the 3 accepted cells; their exponents cannot be told apart"
    assert found.refused == {"learning_rate": why, "batch": why}
    found = rates(*sweep(SIZES[:1], TOKENS[:1]), num_resamples=5, seed=0)
    assert found.refused["batch"] == "neither N nor D varies over the 1 accepted cells"


def test_as_many_cells_as_coefficients_have_no_interval():
    N, D, *rest = sweep(SIZES[:2], TOKENS[:2])
    kept = (N < SIZES[1]) | (D < TOKENS[1])
    law = rates(N[kept], D[kept], *(x[kept] for x in rest), num_resamples=5, seed=0).learning_rate
    assert (law.num_cells, law.a_interval, law.b_interval, law.residual_sd) == (3, None, None, None)


@pytest.mark.parametrize(
    ("u", "L", "reason"),
    [
        ([0, 1, 2, 3], [1.0, 1.1, 1.2, 1.3], "the smallest loss is at the smallest learning rate"),
        ([0, 1, 2, 3], [1.3, 1.2, 1.1, 1.0], "the smallest loss is at the largest learning rate"),
        ([0, 1, 2, 3, 4], [1.0, 1.3, 0.99, 1.3, 1.0], "the quadratic is not convex"),
        ([0, 1], [1.0, 1.1], "2 levels of the learning rate, 3 are needed"),
    ],
)
def test_a_bad_cell_is_refused(u, L, reason):
    good = np.array([0.0, 1.0, 2.0])
    rate = np.exp(np.append(good, u))
    N = np.append(np.full(3, 1e6), np.full(len(u), 1e5))
    same = np.ones(len(rate))
    found = rates(N, same * 1e7, rate, same * 1e4, np.append(1 + (good - 1) ** 2, L), num_resamples=5, seed=0)
    assert [cell.reason for cell in found.cells] == [reason, ""]
    assert found.cells[0].learning_rate is None


def test_a_diagonal_sweep_does_not_determine_two_optima():
    N, D, rate, batch, L = sweep(SIZES[:1], TOKENS[:1])
    diagonal = np.isclose(rate / rate[0], batch / batch[0])
    found = rates(N[diagonal], D[diagonal], rate[diagonal], batch[diagonal], L[diagonal], num_resamples=5, seed=0)
    assert found.cells[0].reason == "5 runs around the smallest loss do not determine a quadratic"


def test_a_cell_that_mixes_an_unswept_batch_is_refused():
    found = rates(*sweep(batch_factors=[1.0, 2.0]), num_resamples=5, seed=0)
    assert {cell.reason for cell in found.cells} == {"mixes values of the batch, which is not swept"}
    assert found.refused["learning_rate"] == "neither N nor D varies over the 0 accepted cells"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"L": [1.0, np.inf]}, "L: row 1 is inf; must be finite and positive"),
        ({"batch": [0.0, 1.0]}, "batch: row 0 is 0.0; must be finite and positive"),
        ({}, r"learning_rate, batch: no \(N, D\) has 3 levels of either"),
    ],
)
def test_wrong_values_are_refused_by_name(changed, message):
    values = {name: [1.0, 2.0] for name in ("N", "D", "learning_rate", "batch", "L")} | changed
    with pytest.raises(ValueError, match=message):
        rates(**values, num_resamples=1, seed=0)
