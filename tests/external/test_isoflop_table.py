"""Proves that `study fit --law isoflop` gives the exponent of runs at given budgets, and says which budgets give none.

Reference: on L = E + A / N^alpha + B / D^beta the optimum of C = 6 N D grows as C^(beta / (alpha + beta)).
"""

import numpy as np
import pytest

from pipeline.command import main
from tests.command.known_laws import TRUTH, loss, table

EXPONENT = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
NOISE = 0.002
"""Nats/token."""


def runs(num_budgets=6, sizes=11, off=1.0, noise=0.0, batch=None):
    """`sizes` sizes about the optimum of each budget, times `off`; `noise` is the sd of L.

    With `batch`, tokens are whole batches of so many and the table holds no C.
    """
    C = np.repeat(np.geomspace(1e18, 1e21, num_budgets), sizes)
    best = (TRUTH["alpha"] * TRUTH["A"] / (TRUTH["beta"] * TRUTH["B"])) ** (1 / (TRUTH["alpha"] + TRUTH["beta"]))
    N = off * best * (C / 6) ** EXPONENT * np.tile(np.geomspace(0.2, 5.0, sizes), num_budgets)
    if batch:
        N = np.round(N)
        D = np.round(C / (6 * N) / batch) * batch
        return table(N, D, loss(N, D))
    L = loss(N, C / (6 * N)) + noise * np.random.default_rng(0).standard_normal(len(N))
    return table(N, C / (6 * N), L, flops_budget=C)


def test_the_exponent_of_exact_runs(fit_of):
    found = fit_of(runs(), "--law", "isoflop")
    assert found.code == 0
    assert found.json["frontier"]["a"] == pytest.approx(EXPONENT, abs=2e-3)
    assert found.json["frontier"]["a_interval"] is None
    assert found.warned == {"no_noise"}
    assert [one["num_sizes"] for one in found.json["minima"]] == [11] * 6
    last = found.json["minima"][-1]
    assert last["params"] * last["tokens"] * 6 == pytest.approx(1e21)


@pytest.mark.parametrize(("batch", "spread"), [(100, 1e-6), (2**22, 0.01)])
def test_rounded_tokens_leave_the_budgets_whole(fit_of, batch, spread):
    found = fit_of(runs(batch=batch), "--law", "isoflop").json
    assert [one["num_sizes"] for one in found["minima"]] == [11] * 6
    np.testing.assert_allclose([one["C"] for one in found["minima"]], np.geomspace(1e18, 1e21, 6), rtol=spread)
    assert found["frontier"]["a"] == pytest.approx(EXPONENT, abs=0.01)
    (text,) = (one["text"] for one in found["warnings"] if one["name"] == "merged_budgets")
    assert text.startswith("6 of 6 budgets were put together from runs whose C differs by up to ")


def test_a_grid_of_sizes_by_tokens_is_said_to_have_no_budgets(fit_of):
    N, D = (column.ravel() for column in np.meshgrid(np.geomspace(1e7, 1e9, 9), np.geomspace(1e9, 3e11, 8)))
    found = fit_of(table(N, D, loss(N, D)), "--law", "isoflop")
    assert found.code == 1
    assert len(found.json["minima"]) == 72
    assert {"sparse_budgets", "too_few_minima"} <= found.warned
    assert "merged_budgets" not in found.warned
    assert "72 of 72 budgets C have fewer than 5 sizes" in found.out


def test_its_interval_comes_from_the_noise_that_is_said(fit_of):
    words = ["--law", "isoflop", "--noise", NOISE, "--published", f"a={EXPONENT},b={1 - EXPONENT},source=the truth"]
    found = fit_of(runs(sizes=15, noise=NOISE), *words)
    low, high = found.json["frontier"]["a_interval"]
    assert low < EXPONENT < high
    assert high - low < 0.1
    a, b = found.json["published"]["rows"]
    assert a["standard_errors"] == pytest.approx(-b["standard_errors"])
    assert abs(a["standard_errors"]) < 2.5
    assert a["standard_errors"] == pytest.approx(a["difference"] / ((high - low) / 3.92))


def test_budgets_without_a_minimum_are_named_and_leave_no_exponent(fit_of, tmp_path, capsys):
    found = fit_of(runs(off=30.0), "--law", "isoflop", "--page", tmp_path / "page.html")
    assert (found.code, found.json["frontier"]) == (1, None)
    assert found.out.startswith("REFUSED (refused:too_few_minima)")
    assert "refused: C = 1e+18, 3.981e+18" in found.out
    assert ": the smallest loss is at the smallest size that reaches it" in found.out
    assert "too few minima" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["predict", "--from", str(tmp_path / "out.json"), "--flops", "1e22"])
    assert "nothing can be predicted from a fit refused: 0 of 6 budgets" in capsys.readouterr().err


def test_isoflop_minima_predict_no_loss(fit_of, tmp_path, capsys):
    assert fit_of(runs(), "--law", "isoflop").code == 0
    with pytest.raises(SystemExit):
        main(["predict", "--from", str(tmp_path / "out.json"), "--flops", "1e22"])
    assert "nothing can be predicted from isoFLOP minima, which are no law of the loss" in capsys.readouterr().err
