"""Proves the laws' loss, gradient and optimal size against direct evaluation, finite differences and a minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from pipeline.fitting.forms import Additive, QForm, log_loss, shift_centre
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, study

HOFFMANN = Additive(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
LAWS = [HOFFMANN, ADDITIVE_TRUTH, Q_TRUTH, QForm(E=1.0, A=400.0, alpha=0.34, B=410.0, beta=0.28, q=0.4)]


def test_hoffmanns_law_at_gopher_size():
    N, D = 280e9, 300e9
    assert HOFFMANN.loss(N, D) == pytest.approx(1.69 + 406.4 / N**0.34 + 410.7 / D**0.28, rel=1e-13)


def test_q_form_is_the_q_norm_of_the_two_terms():
    law, N, D = Q_TRUTH, 2e5, 3e6
    size, data = law.A / N**law.alpha, law.B / D**law.beta
    assert law.loss(N, D) == pytest.approx(law.E + (size**law.q + data**law.q) ** (1 / law.q), rel=1e-13)


def test_q_of_one_is_the_additive_law():
    law = ADDITIVE_TRUTH
    same = QForm(law.E, law.A, law.alpha, law.B, law.beta, q=1.0)
    N, D, _ = study("S5")
    np.testing.assert_allclose(same.loss(N, D), law.loss(N, D), rtol=1e-14)


def test_loss_broadcasts_sizes_against_tokens():
    assert ADDITIVE_TRUTH.loss(np.array([[1e4], [1e5]]), np.array([1e5, 1e6, 1e7])).shape == (2, 3)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name} q={law.exponent}")
def test_gradient_against_central_differences(law):
    N, D, _ = study("S5")
    x, y, step = np.log(N), np.log(D), 1e-6
    for column in range(len(law.theta)):
        up, down = law.theta.copy(), law.theta.copy()
        up[column] += step
        down[column] -= step
        slope = (log_loss(up[None], x, y) - log_loss(down[None], x, y))[0] / (2 * step)
        np.testing.assert_allclose(law.log_gradient(N, D)[:, column], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name} q={law.exponent}")
def test_optimal_size_against_a_numerical_minimiser(law):
    for C in (1e11, 1e15, 1e21):
        found = minimize_scalar(
            lambda log_N, C=C: float(law.loss(np.exp(log_N), C / (6 * np.exp(log_N)))),
            bounds=(np.log(C / 6) * 0.2, np.log(C / 6) * 0.8),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert np.log(law.optimal_size(C)[0]) == pytest.approx(found.x, abs=1e-6)
    ratio = law.optimal_size([1e11, 1e12])
    assert np.log10(ratio[1] / ratio[0]) == pytest.approx(law.size_exponent, rel=1e-10)


def test_shifting_the_centre_leaves_the_loss():
    N, D, _ = study("S4")
    x, y = np.log(N), np.log(D)
    theta = Q_TRUTH.theta[None]
    centred = shift_centre(theta, -x.mean(), -y.mean())
    np.testing.assert_allclose(log_loss(centred, x - x.mean(), y - y.mean()), log_loss(theta, x, y), rtol=1e-12)
