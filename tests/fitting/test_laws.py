"""Proves every law's loss, derivatives and optimal size against direct evaluation, finite differences and search."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from pipeline.fitting.laws import (
    LAWS,
    BrokenC,
    BrokenD,
    BrokenN,
    Chinchilla,
    DataConstrained,
    Interaction,
    Kaplan,
    NoOffset,
    OverTraining,
    QForm,
    SaturatingC,
    SaturatingD,
    SaturatingN,
    Tied,
    TwoRecipes,
    log_losses,
)
from pipeline.fitting.points import Variables

HOFFMANN = Chinchilla(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
TRUTHS = [
    HOFFMANN,
    Tied(E=1.7, A=400.0, B=500.0, alpha=0.33),
    NoOffset(A=8.0, alpha=0.10, B=30.0, beta=0.12),
    QForm(E=1.2, A=300.0, alpha=0.45, B=200.0, beta=0.35, q=2.5),
    QForm(E=0.3, A=40.0, alpha=0.3, B=90.0, beta=0.32, q=0.6),
    Kaplan(N_c=8.8e13, alpha_N=0.076, D_c=5.4e13, alpha_D=0.095),
    Interaction(E=1.5, A=300.0, alpha=0.35, B=400.0, beta=0.33, K=20.0, gamma=0.4),
    SaturatingN(E=1.7, A=100.0, gamma=0.3),
    SaturatingD(E=1.7, A=100.0, gamma=0.3),
    SaturatingC(E=1.7, A=1000.0, gamma=0.15),
    BrokenN(E=1.2, A=20.0, c0=0.12, c1=0.2, d1=1e9, f1=0.5),
    BrokenD(E=1.2, A=20.0, c0=0.25, c1=-0.12, d1=2e10, f1=0.8),
    BrokenC(E=1.1, A=100.0, c0=0.08, c1=0.1, d1=1e20, f1=1.2),
    DataConstrained(E=1.87, A=521.0, alpha=0.35, B=1488.0, beta=0.37, R_D=15.4, R_N=5.3),
    OverTraining(E=1.5, a=113.0, b=190.0, c=-0.25),
    TwoRecipes(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28, m_N=1.3, m_D=1.1),
]
"""One or two laws of every form, at scales where all their terms count."""


def grid() -> tuple[np.ndarray, np.ndarray]:
    """81 runs, 3e7 to 2e10 parameters and 5e8 to 1e12 tokens."""
    N, D = np.meshgrid(np.geomspace(3e7, 2e10, 9), np.geomspace(5e8, 1e12, 9))
    return N.ravel(), D.ravel()


def columns(law, D) -> dict[str, np.ndarray]:
    """The columns that the law needs: unique tokens up to a fortieth of D, recipes in turn."""
    repeats = np.geomspace(1.5, 40.0, len(D))[np.random.default_rng(0).permutation(len(D))]
    known = {"unique_tokens": D / repeats, "recipe": np.arange(len(D)) % 2.0}
    return {name: known[name] for name in law.columns}


def by_name(law) -> str:
    return law.name if not isinstance(law, QForm) else f"{law.name} q={law.q}"


def test_every_law_is_tried_here():
    assert {law.name for law in TRUTHS} == set(LAWS)


def test_hoffmanns_law_at_gopher_size():
    N, D = 280e9, 300e9
    assert HOFFMANN.loss(N, D) == pytest.approx(1.69 + 406.4 / N**0.34 + 410.7 / D**0.28, rel=1e-13)


@pytest.mark.parametrize(
    ("law", "direct"),
    [
        (TRUTHS[1], lambda N, D: 1.7 + 400 / N**0.33 + 500 / D**0.33),
        (TRUTHS[2], lambda N, D: 8 / N**0.1 + 30 / D**0.12),
        (TRUTHS[3], lambda N, D: 1.2 + ((300 / N**0.45) ** 2.5 + (200 / D**0.35) ** 2.5) ** 0.4),
        (TRUTHS[5], lambda N, D: ((8.8e13 / N) ** (0.076 / 0.095) + 5.4e13 / D) ** 0.095),
        (TRUTHS[6], lambda N, D: 1.5 + 300 / N**0.35 + 400 / D**0.33 + 20 / (N**0.35 * D**0.33) ** 0.4),
        (TRUTHS[7], lambda N, D: 1.7 + 100 / N**0.3),
        (TRUTHS[9], lambda N, D: 1.7 + 1000 / (6 * N * D) ** 0.15),
        (TRUTHS[10], lambda N, D: 1.2 + 20 * N**-0.12 * (1 + (N / 1e9) ** (1 / 0.5)) ** (-0.2 * 0.5)),
        (TRUTHS[14], lambda N, D: 1.5 + 113 * N**-0.25 + 190 * 6**-0.125 * D**-0.25),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_loss_is_its_formula(law, direct):
    N, D = grid()
    np.testing.assert_allclose(law.loss(N, D), direct(N, D), rtol=1e-12)


def test_the_second_recipe_sees_more_parameters_and_tokens():
    law, (N, D) = TRUTHS[-1], grid()
    np.testing.assert_allclose(law.loss(N, D, recipe=0.0 * N), HOFFMANN.loss(N, D), rtol=1e-13)
    np.testing.assert_allclose(law.loss(N, D, recipe=0.0 * N + 1), HOFFMANN.loss(1.3 * N, 1.1 * D), rtol=1e-13)
    C = 1e21
    first = HOFFMANN.loss(HOFFMANN.optimal_size(1.43 * C), 1.43 * C / 6 / HOFFMANN.optimal_size(1.43 * C))
    best = law.optimal_size(C, recipe=1.0)
    assert law.compute_multiplier == pytest.approx(1.43)
    assert law.loss(best, C / 6 / best, recipe=1.0) == pytest.approx(first, rel=1e-12)


def test_repeated_tokens_are_worth_less_and_unrepeated_ones_what_chinchilla_says():
    law = DataConstrained(E=1.87, A=521.0, alpha=0.35, B=1488.0, beta=0.37, R_D=15.4, R_N=5.3)
    plain = Chinchilla(law.E, law.A, law.alpha, law.B, law.beta)
    N, U = 1e9, 2e10
    optimal = plain.optimal_size(6 * N * U)[0]
    assert law.loss(min(N, optimal), U, unique_tokens=U) == pytest.approx(plain.loss(min(N, optimal), U), rel=1e-6)
    effective = U * (1 + 15.4 * (1 - np.exp(-(4 - 1) / 15.4)))
    assert law.loss(1e8, 4 * U, unique_tokens=U) == pytest.approx(plain.loss(1e8, effective), rel=1e-6)
    assert law.loss(N, 1e6 * U, unique_tokens=U) > plain.loss(N, 1e6 * U)


def test_q_of_one_is_chinchilla():
    N, D = grid()
    same = QForm(HOFFMANN.E, HOFFMANN.A, HOFFMANN.alpha, HOFFMANN.B, HOFFMANN.beta, q=1.0)
    np.testing.assert_allclose(same.loss(N, D), HOFFMANN.loss(N, D), rtol=1e-14)


def test_loss_broadcasts_sizes_against_tokens():
    assert HOFFMANN.loss(np.array([[1e8], [1e9]]), np.array([1e9, 1e10, 1e11])).shape == (2, 3)


@pytest.mark.parametrize("law", TRUTHS, ids=by_name)
def test_gradient_and_hessian_against_central_differences(law):
    N, D = grid()
    more = columns(law, D)
    at, theta = Variables.of(N, D, more), law.theta
    gradient, hessian = law.gradient(N, D, **more), law.hessian(N, D, **more)
    k, step = len(theta), 1e-4 * np.eye(len(theta))
    allowed = 0.97 if isinstance(law, DataConstrained) else 0.999

    def moved(*steps):
        return log_losses(type(law), (theta + sum(steps))[None], at)[0]

    for i in range(k):
        slope = (moved(step[i]) - moved(-step[i])) / 2e-4
        # The lesser of two sizes has a kink, which differences straddle at a run or two.
        close = np.isclose(gradient[:, i], slope, rtol=1e-5, atol=1e-7)
        assert close.mean() > allowed, i
        for j in range(i, k):
            ahead, behind = moved(step[i], step[j]) - moved(step[i], -step[j]), moved(-step[i], step[j])
            bend = (ahead - behind + moved(-step[i], -step[j])) / 4e-8
            assert np.isclose(hessian[:, i, j], bend, rtol=1e-4, atol=2e-5).mean() > allowed, (i, j)
            np.testing.assert_array_equal(hessian[:, i, j], hessian[:, j, i])


@pytest.mark.parametrize("law", [law for law in TRUTHS if not hasattr(law, "variable")], ids=by_name)
def test_optimal_size_against_a_numerical_minimiser(law):
    more = {"unique_tokens": 3e10, "recipe": 1.0}
    more = {name: more[name] for name in law.columns}
    for C in (1e18, 1e21, 1e24):
        found = minimize_scalar(
            lambda log_N, C=C: float(law.loss(np.exp(log_N), C / (6 * np.exp(log_N)), **more)),
            bounds=(np.log(C / 6) * 0.2, np.log(C / 6) * 0.8),
            method="bounded",
            options={"xatol": 1e-10},
        )
        N = law.optimal_size(C, **more)[0]
        assert law.loss(N, C / (6 * N), **more) <= found.fun * (1 + 1e-12)
        if not law.columns:  # the flat valley of repeated data holds many sizes to within rounding
            assert np.log(N) == pytest.approx(found.x, abs=2e-6)
    if law.size_exponent is not None:
        ratio = law.optimal_size([1e21, 1e22], **more)
        assert np.log10(ratio[1] / ratio[0]) == pytest.approx(law.size_exponent, rel=1e-6)


@pytest.mark.parametrize("law", [law for law in TRUTHS if hasattr(law, "variable")], ids=by_name)
def test_a_law_of_one_variable_has_no_optimal_size(law):
    assert law.variable == "C" or np.isnan(law.optimal_size(1e21)[0])


@pytest.mark.parametrize("law", TRUTHS, ids=by_name)
def test_centred_parameters_give_the_same_loss(law):
    N, D = grid()
    at = Variables.of(N, D, columns(law, D))
    centred, centre = at.centred()
    form, theta = type(law), law.theta[None]
    raw = form.thetas(form.uncentred(form.values(theta), centre))
    np.testing.assert_allclose(log_losses(form, raw, at), log_losses(form, theta, centred), rtol=1e-10)
