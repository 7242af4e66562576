"""Proves that expected errors are those of simulated studies, and that chosen runs help a target most for their FLOPs.

References: 300 real fits to simulated runs, the covariance recomputed from scratch after every choice, a Gaussian prior
in place of the closed form, and random choice at equal FLOPs.
"""

import numpy as np
import pytest
from scipy.stats import t as student

from pipeline.fitting.design import expected_interval, next_runs
from pipeline.fitting.estimators import L2
from pipeline.fitting.laws import Chinchilla, SaturatingC, TwoRecipes
from pipeline.fitting.points import cell_weights
from pipeline.fitting.solver import fit

TRUTH = Chinchilla(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
RECIPES = TwoRecipes(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28, m_N=1.5, m_D=0.8)
TARGET = (1e10, 1e12)
SD = 0.005


def grid(sizes, tokens):
    return tuple(axis.ravel() for axis in np.meshgrid(sizes, tokens))


def noisy(random, N, D, law=TRUTH, sd=SD, **columns):
    return law.loss(N, D, **columns) * np.exp(sd * random.standard_normal(len(N)))


SMALL = grid(np.geomspace(1e6, 3e7, 4), np.geomspace(1e8, 1e9, 3))
CANDIDATES = grid(np.geomspace(1e6, 1e9, 10), np.geomspace(1e8, 1e11, 10))


def small_fit(seed=0):
    return fit(Chinchilla, *SMALL, noisy(np.random.default_rng(seed), *SMALL), L2)


def test_expected_errors_are_the_spread_of_simulated_fits():
    N, D = grid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5))
    expected = expected_interval(TRUTH, N, D, SD, *TARGET)
    random = np.random.default_rng(0)
    laws = [fit(Chinchilla, N, D, noisy(random, N, D), L2, num_starts=2).law for _ in range(300)]
    spread = np.log([[getattr(law, name) for name in law.parameters()] for law in laws]).std(axis=0, ddof=1)
    # The sd of 300 draws is known to 4 %.
    np.testing.assert_allclose(spread, list(expected.relative_error.values()), rtol=0.13)
    target = np.log([float(law.loss(*TARGET)) for law in laws]).std(ddof=1)
    assert target == pytest.approx(expected.target_error, rel=0.13)
    assert expected.identified
    assert expected.num_runs == 25
    assert expected.freedom == 20
    assert expected.C == pytest.approx(np.sum(6 * N * D))
    assert expected.standard_error["B"] == pytest.approx(410.7 * expected.relative_error["B"])
    assert expected.half_width["B"] == pytest.approx(student.ppf(0.975, 20) * expected.standard_error["B"])
    assert expected.target_half_width == pytest.approx(student.ppf(0.975, 20) * expected.target_error)


@pytest.mark.parametrize(
    ("law", "columns"),
    [
        (SaturatingC(E=1.7, A=900.0, gamma=0.17), {}),
        (RECIPES, {"recipe": np.arange(36) % 2}),
    ],
)
def test_other_laws_agree_with_the_jacobian_of_their_fit(law, columns):
    N, D = grid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 6))
    of_target = dict.fromkeys(columns, 1.0)
    expected = expected_interval(law, N, D, SD, *TARGET, columns, of_target)
    found = fit(type(law), N, D, law.loss(N, D, **columns), L2, columns=columns)
    S = SD**2 * np.linalg.inv(found.jacobian.T @ found.jacobian)
    assert expected.relative_error["E"] == pytest.approx(np.sqrt(S[0, 0]), rel=1e-5)
    step = np.linalg.cholesky(S) * 1e-4
    names = law.parameters()
    moved = [
        found.form.uncentred(found.form.values(found.theta + sign * step.T), found.points.centre) for sign in (1, -1)
    ]
    losses = [
        [
            float(np.log(type(law)(**{n: float(v[n][i]) for n in names}).loss(*TARGET, **of_target)))
            for i in range(len(names))
        ]
        for v in moved
    ]
    assert expected.target_error == pytest.approx(np.linalg.norm((np.array(losses[0]) - losses[1]) / 2e-4), rel=1e-4)


def test_designs_that_identify_nothing_say_so():
    N = np.geomspace(1e6, 1e9, 12)
    straight = expected_interval(TRUTH, N, 20 * N, SD, *TARGET)
    assert not straight.identified
    assert "collinear" in straight.reason
    assert np.isinf(straight.target_error)
    assert np.isinf(list(straight.half_width.values())).all()
    few = expected_interval(TRUTH, *grid(N[:2], N[:6]), SD, *TARGET)
    assert "2 distinct N" in few.reason


def test_choices_take_the_largest_cut_of_a_covariance_recomputed_from_scratch():
    found = small_fit()
    chosen = next_runs(found, SD, *CANDIDATES, *TARGET, num_runs=6, drift_sd=0.0, cost_power=1.0)
    N, D = SMALL
    C = 6 * CANDIDATES[0] * CANDIDATES[1]
    j = found.law.gradient([TARGET[0]], [TARGET[1]])[0]
    J_candidates = found.law.gradient(*CANDIDATES)

    def variance(J):
        return j @ np.linalg.solve(J.T @ J / SD**2, j)

    total = 0.0
    for run in chosen:
        J = found.law.gradient(N, D)
        assert run.error_before == pytest.approx(np.sqrt(variance(J)), rel=1e-5)
        after = np.array([variance(np.vstack([J, row])) for row in J_candidates])
        best = int(np.argmax((variance(J) - after) / C))
        assert (run.N, run.D) == (CANDIDATES[0][best], CANDIDATES[1][best])
        assert run.error_after == pytest.approx(np.sqrt(after[best]), rel=1e-5)
        assert run.cut_per_flop == pytest.approx((variance(J) - after[best]) / C[best], rel=1e-4)
        total += run.C
        assert run.total_flops == pytest.approx(total)
        N, D = np.append(N, run.N), np.append(D, run.D)


def test_errors_with_drift_are_those_of_a_gaussian_prior():
    found, drift = small_fit(), 0.004
    chosen = next_runs(found, SD, *CANDIDATES, *TARGET, num_runs=3, drift_sd=drift)
    N = np.concatenate([SMALL[0], [run.N for run in chosen], TARGET[:1]])
    D = np.concatenate([SMALL[1], [run.D for run in chosen], TARGET[1:]])
    far = np.abs(np.log(N * D) - np.log(TARGET[0] * TARGET[1]))
    J = found.law.gradient(N, D)
    J = J / np.linalg.norm(J, axis=0)
    prior = 1e5 * J @ J.T + drift**2 * np.minimum(far[:, None], far)
    for extra, run in enumerate(chosen, start=1):
        seen = np.arange(len(SMALL[0]) + extra)
        gain = np.linalg.solve(prior[np.ix_(seen, seen)] + SD**2 * np.eye(len(seen)), prior[seen, -1])
        assert run.error_after == pytest.approx(np.sqrt(prior[-1, -1] - prior[-1, seen] @ gain), rel=2e-3)


def test_drift_moves_the_choice_away_from_tiny_runs():
    found = small_fit()
    trusting, wary = (
        next_runs(found, SD, *CANDIDATES, *TARGET, num_runs=30, drift_sd=drift, cost_power=1.0) for drift in (0.0, 0.01)
    )
    smallest = CANDIDATES[0].min() * CANDIDATES[1].min() * 6
    assert sum(run.C == smallest for run in trusting) > 2 * sum(run.C == smallest for run in wary)
    assert wary[0].error_before > trusting[0].error_before


def test_budget_and_smallest_scale_are_kept():
    found = small_fit()
    chosen = next_runs(found, SD, *CANDIDATES, *TARGET, budget_flops=1e19, num_runs=1000, N_min=1e7, D_min=1e9)
    assert 1 < len(chosen) < 1000
    assert chosen[-1].total_flops <= 1e19
    assert chosen[-1].total_flops + 6 * 1e7 * 1e9 > 1e19
    assert all(run.N >= 1e7 and run.D >= 1e9 for run in chosen)
    errors = [run.error_after for run in chosen]
    assert np.all(np.diff(errors) < 0)


def test_weighted_seeds_count_as_one_run_of_the_mean_noise():
    N, D = np.repeat(SMALL[0], 3), np.repeat(SMALL[1], 3)
    L = TRUTH.loss(N, D)
    seeds = fit(Chinchilla, N, D, L, L2, weights=cell_weights(N, D))
    once = fit(Chinchilla, *SMALL, TRUTH.loss(*SMALL), L2)
    errors = [
        next_runs(one, SD, *CANDIDATES, *TARGET, num_runs=1, drift_sd=0.0)[0].error_before for one in (seeds, once)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


def test_the_recipe_of_the_target_is_preferred():
    N, D = (np.tile(axis, 2) for axis in SMALL)
    recipe = np.repeat([0.0, 1.0], len(SMALL[0]))
    found = fit(
        TwoRecipes, N, D, noisy(np.random.default_rng(1), N, D, RECIPES, recipe=recipe), L2, columns={"recipe": recipe}
    )
    of_both = {"recipe": np.array([0.0, 1.0])}
    first = next_runs(
        found, SD, 1e8, 1e10, *TARGET, num_runs=1, drift_sd=0.0, columns=of_both, target_columns={"recipe": 1.0}
    )[0]
    alone = [
        next_runs(
            found,
            SD,
            1e8,
            1e10,
            *TARGET,
            num_runs=1,
            drift_sd=0.0,
            columns={"recipe": one},
            target_columns={"recipe": 1.0},
        )[0].error_after
        for one in (0.0, 1.0)
    ]
    assert alone[1] < alone[0]
    assert first.error_after == pytest.approx(alone[1])


def test_chosen_runs_beat_random_ones_at_equal_flops():
    budget, truth = 3e19, float(np.log(TRUTH.loss(*TARGET)))
    C = 6 * CANDIDATES[0] * CANDIDATES[1]

    def at_random(found, random):
        spent, picked = 0.0, []
        while len(affordable := np.flatnonzero(spent + C <= budget)) and len(picked) < 60:
            picked.append(int(random.choice(affordable)))
            spent += C[picked[-1]]
        return CANDIDATES[0][picked], CANDIDATES[1][picked]

    def by_design(found, random):
        runs = next_runs(found, SD, *CANDIDATES, *TARGET, budget_flops=budget, num_runs=60, drift_sd=0.0)
        return np.array([run.N for run in runs]), np.array([run.D for run in runs])

    squares = {}
    for choose in (at_random, by_design):
        misses = []
        for seed in range(50):
            random = np.random.default_rng(seed)
            L = noisy(random, *SMALL)
            N, D = choose(fit(Chinchilla, *SMALL, L, L2, num_starts=2), random)
            assert np.sum(6 * N * D) <= budget
            more = noisy(random, N, D)
            N, D, L = np.append(SMALL[0], N), np.append(SMALL[1], D), np.append(L, more)
            misses.append(float(np.log(fit(Chinchilla, N, D, L, L2, num_starts=2).law.loss(*TARGET))) - truth)
        squares[choose] = np.mean(np.square(misses))
    assert squares[by_design] < 0.5 * squares[at_random]


def test_costs_of_the_candidates_own_replace_6_N_D():
    N, D = CANDIDATES
    asked = (small_fit(), SD, N, D, *TARGET)
    told = next_runs(*asked, budget_flops=1e20, num_runs=3)
    assert next_runs(*asked, budget_flops=1e20, num_runs=3, costs=6 * N * D) == told
    (first,) = next_runs(*asked, num_runs=1, costs=np.ones(len(N)))
    cuts = [next_runs(small_fit(), SD, [a], [b], *TARGET, num_runs=1)[0].error_after for a, b in zip(N, D, strict=True)]
    best = int(np.argmin(cuts))  # where all cost the same, the best is the one that leaves the least error
    assert (first.N, first.D, first.total_flops) == (N[best], D[best], 1.0)
    dear = np.where(np.arange(len(N)) == best, 1e9, 1.0)
    (second,) = next_runs(*asked, budget_flops=1e3, num_runs=1, costs=dear)
    assert (second.N, second.D) != (first.N, first.D)
    assert second.total_flops == 1.0


def test_refusals():
    found = small_fit()
    with pytest.raises(ValueError, match=r"noise_sd: 0.0 is not a positive number"):
        next_runs(found, 0.0, *CANDIDATES, *TARGET)
    with pytest.raises(ValueError, match=r"candidates_D: -1.0 is not a positive number"):
        next_runs(found, SD, [1e6], [-1.0], *TARGET)
    with pytest.raises(ValueError, match=r"none of 100 has N >= 1e\+12"):
        next_runs(found, SD, *CANDIDATES, *TARGET, N_min=1e12)
    N = np.geomspace(1e6, 1e9, 12)
    straight = fit(Chinchilla, N, 20 * N, TRUTH.loss(N, 20 * N), L2)
    with pytest.raises(ValueError, match="chinchilla is not identified: ln N and ln D are collinear"):
        next_runs(straight, SD, *CANDIDATES, *TARGET)
    with pytest.raises(ValueError, match="recipe: the law two_recipes needs this column"):
        expected_interval(RECIPES, *SMALL, SD, *TARGET, {"recipe": np.zeros(12)})
    with pytest.raises(ValueError, match="target_N: nan"):
        expected_interval(TRUTH, *SMALL, SD, np.nan, 1e12)
