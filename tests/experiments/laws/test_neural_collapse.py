"""Neural collapse: its signs against plain loops, strength and threshold against proximal steps on a convex problem."""

import numpy as np
import polars as pl
import pytest
from scipy.optimize import approx_fprime, check_grad

from pipeline.experiments.laws.neural_collapse import CE, SQUARED, collapse, judge, objective, solve
from tests.experiments.laws.bench import dials, read_laws, try_law

QUICK = {"seeds": [0, 1, 2], "shapes": [[6, 8, 10, 1.0], [4, 5, 8, 400.0]], "ratios": [0.5, 0.95, 0.99, 1.01],
         "dimensions": [4, 5, 6], "epochs": 600}  # fmt: skip
TINY = {"seeds": [0, 1], "shapes": [[3, 4, 4, 1.0]], "ratios": [0.5, 0.99, 1.01], "dimensions": [1, 3], "epochs": 150,
        "networks": [[3, "cross_entropy", 0.5]], "outside": [[3, "squared_error", 0.01]]}  # fmt: skip


@pytest.fixture(scope="module")
def tried():
    return try_law("neural_collapse", **QUICK)


@pytest.fixture(scope="module")
def erased():
    return try_law("neural_collapse", **TINY)


def simplex(num_classes):
    """The corners of a simplex as rows: unit vectors less their mean."""
    return np.eye(num_classes) - 1 / num_classes


def test_the_signs_are_those_of_plain_loops():
    random = np.random.default_rng(0)
    K, n, d = 4, 7, 9
    features = random.normal(size=(K, n, d)) + 2 * random.normal(size=(K, 1, d))
    W, b = random.normal(size=(K, d)), random.normal(size=K)
    signs = collapse(features, W, b)
    means = [sum(features[k]) / n for k in range(K)]
    M = [mean - sum(means) / K for mean in means]
    within = sum(np.outer(features[k, i] - means[k], features[k, i] - means[k]) for k in range(K) for i in range(n))
    values, vectors = np.linalg.eigh(sum(np.outer(m, m) for m in M) / K)
    inverse = sum(np.outer(v, v) / value for value, v in zip(values[-3:], vectors[:, -3:].T, strict=True))
    assert signs["nc1"] == pytest.approx(np.trace(within / (K * n) @ inverse) / K, rel=1e-9)
    cosines = [M[j] @ M[k] / np.sqrt(M[j] @ M[j] * (M[k] @ M[k])) for j in range(K) for k in range(K) if j != k]
    assert signs["cos"] == pytest.approx(sum(cosines) / 12)
    assert signs["cos_off"] == pytest.approx(sum(abs(cos + 1 / 3) for cos in cosines) / 12)
    lengths = np.sqrt((W**2).sum()), np.sqrt(sum(m @ m for m in M))
    assert signs["nc3"] ** 2 == pytest.approx(
        sum(((W[k] / lengths[0] - M[k] / lengths[1]) ** 2).sum() for k in range(K))
    )
    differ = right = 0
    for k in range(K):
        for i in range(n):
            named = max(range(K), key=lambda j: W[j] @ features[k, i] + b[j])
            nearest = min(range(K), key=lambda j: ((features[k, i] - means[j]) ** 2).sum())
            differ, right = differ + (named != nearest), right + (named == k)
    assert 0 < differ < K * n
    assert (signs["nc4"], signs["right"]) == (differ / (K * n), right / (K * n))
    assert signs["weakest"] ** 2 == pytest.approx(values[-3] / values[-1])


@pytest.mark.parametrize("num_classes", [3, 10])
def test_a_simplex_is_the_end_of_collapse_and_an_orthogonal_frame_becomes_one_when_centred(num_classes):
    corners = simplex(num_classes)
    signs = collapse(np.repeat(corners[:, None], 4, axis=1), 3 * corners, np.zeros(num_classes))
    expected = {"nc1": 0, "cos": -1 / (num_classes - 1), "cos_off": 0, "nc3": 0, "nc4": 0, "weakest": 1, "right": 1}
    assert signs == pytest.approx(expected, abs=1e-12)
    frame = np.repeat(np.eye(num_classes)[:, None], 4, axis=1)
    assert collapse(frame, corners, np.zeros(num_classes))["cos_off"] == pytest.approx(0, abs=1e-12)
    bare = collapse(frame, corners, np.zeros(num_classes), centred=False)
    assert bare["cos_off"] == pytest.approx(1 / (num_classes - 1))


@pytest.mark.parametrize("loss", [CE, SQUARED])
@pytest.mark.parametrize("bias", [0, 1])
def test_the_gradient_is_that_of_finite_differences(loss, bias):
    problem = [3, 2, 4, 9.0, 0.4, bias]
    point = np.random.default_rng(1).normal(size=3 * 4 + 4 * 6 + 3)
    held = slice(None) if bias else slice(0, -3)

    def value(part):
        whole = point.copy()
        whole[held] = part
        return objective(whole, problem, loss)[0]

    def gradient(part):
        whole = point.copy()
        whole[held] = part
        return objective(whole, problem, loss)[1][held]

    assert check_grad(value, gradient, point[held]) < 1e-6
    assert bias or not objective(point, problem, loss)[1][-3:].any()


def mean_loss(logits, loss, num_classes, per_class):
    """The loss of logits (K, N) alone, its classes in order."""
    labels = np.repeat(np.eye(num_classes), per_class, axis=1)
    if loss == CE:
        return np.mean(np.log(np.exp(logits).sum(axis=0)) - (labels * logits).sum(axis=0))
    return ((logits - labels) ** 2).sum(axis=0).mean() / 2


@pytest.mark.parametrize("loss", [CE, SQUARED])
def test_at_zero_the_slope_of_the_loss_has_the_norm_that_puts_the_threshold_at_one(loss):
    K, n = 5, 3
    bias = 1 / K if loss == SQUARED else 0.0  # the best one where the features are zero
    slope = approx_fprime(np.full(K * K * n, bias), lambda flat: mean_loss(flat.reshape(K, -1), loss, K, n), 1e-7)
    assert np.linalg.norm(slope.reshape(K, -1), 2) == pytest.approx(1 / (K * np.sqrt(n)), rel=1e-5)


@pytest.mark.parametrize("loss", [CE, SQUARED])
@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.05])
def test_the_minimum_is_that_of_the_nuclear_norm_by_proximal_steps(loss, ratio):
    K, n = 4, 3
    labels, Z, b = np.repeat(np.eye(K), n, axis=1), np.zeros((K, K * n)), np.zeros((K, 1))
    for _ in range(3000):
        logits = Z + b
        named = np.exp(logits) / np.exp(logits).sum(axis=0) if loss == CE else logits
        error = named - labels
        U, values, V = np.linalg.svd(Z - error, full_matrices=False)
        Z, b = U * np.maximum(values - K * n * ratio / (K * np.sqrt(n)), 0) @ V, b - error.mean(axis=1, keepdims=True)
    values = np.linalg.svd(Z, compute_uv=False)[: K - 1] / np.sqrt(n)
    found = solve([K, n, 6, 4.0, ratio, 1], loss, 0)
    assert values == pytest.approx(np.full(K - 1, found["theory"]), abs=1e-6)
    assert found["strength"] == pytest.approx(values.mean(), abs=1e-6)


def test_the_law_holds_and_its_boundaries_lie_where_predicted(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    assert verdicts["free features, no bias", "control"] == "violated"
    assert verdicts["outside: K = 10, cross_entropy, decay 0.02", "control"] == "violated"
    assert verdicts["outside: K = 4, cross_entropy, decay 0.0", "control"] == "violated"
    assert verdicts["outside: K = 4, cross_entropy, decay 0.5", "control"] == "not_reached"


def judged(tried, law, **columns):
    """The one finding of that law if columns of the curves of free features had been these."""
    curves = tried.curves.with_columns(**columns)
    (found,) = (one for one in judge(tried.settings, tried.runs, curves).findings if one.law == law)
    return found


@pytest.mark.parametrize("gone", [np.nan, None])
def test_one_value_that_is_not_known_leaves_the_simplex_undetermined(tried, gone):
    first = (pl.col("run_id") == tried.runs.filter(kind="ratio")["run_id"][0]) & (pl.col("ratio") == 0.5)
    for name in ("error", "nc3"):
        lost = {name: pl.when(first).then(pl.lit(gone)).otherwise(name)}
        found = judged(tried, "free features form a simplex", **lost)
        assert found.verdict == "undetermined"
        assert "not known in every run" in found.statement


def test_free_features_that_vanish_in_every_run_but_one_or_too_soon_in_one_do_not_hold(tried):
    whole = tried.finding("free features vanish", "boundary")
    assert (whole.verdict, whole.interval, whole.interval_kind) == ("holds", (0.99, 1.01), "swept")
    assert "All is zero at r >= 1.01 in 12 of 12 runs" in whole.statement
    ids, strength = tried.runs.filter(kind="ratio")["run_id"], pl.col("strength")
    lasting = judged(tried, whole.law, strength=pl.when(pl.col("run_id") == ids[0]).then(0.1).otherwise(strength))
    assert lasting.verdict == "undetermined"
    assert "in 11 of 12 runs" in lasting.statement
    soon = (pl.col("run_id") == ids[0]) & (pl.col("ratio") > 0.5)
    assert judged(tried, whole.law, strength=pl.when(soon).then(0.0).otherwise(strength)).verdict == "violated"
    assert judged(tried, whole.law, strength=pl.lit(0.1)).verdict == "not_reached"


def test_a_dimension_where_one_loss_has_no_value_has_no_room(tried):
    loss = tried.runs.filter(loss="cross_entropy")["run_id"].implode()
    lost = pl.when((pl.col("dimension") == 5) & pl.col("run_id").is_in(loss)).then(np.nan).otherwise(pl.col("cos_off"))
    assert judged(tried, "free features have room", cos_off=lost).verdict == "undetermined"


def test_many_classes_with_cross_entropy_lose_directions_and_with_squared_error_keep_them(tried):
    weakest = {name: rows["weakest"].max() for (name,), rows in tried.judgement.tables["networks"].group_by("network")}
    assert weakest["K = 10, cross_entropy, decay 0.02"] < 0.15
    least = tried.judgement.tables["networks"].filter(network="K = 10, squared_error, decay 0.01")["weakest"].min()
    assert least > 0.7


def test_a_network_whose_features_are_erased_has_not_reached_collapse(erased):
    assert erased.finding("networks collapse").verdict == "not_reached"


def test_a_sign_that_rises_is_not_said_to_fall(tried):
    fallen = tried.runs.with_columns(first_nc1=3 * pl.col("last_nc1"))
    risen = tried.runs.with_columns(first_nc1=pl.col("last_nc1") / 4)
    for runs, words in ((fallen, "NC1 falls 3-fold"), (risen, "NC1 grows 4-fold")):
        judged = judge(tried.settings, runs, tried.curves)
        (said,) = (one.statement for one in judged.findings if one.law == "networks collapse")
        assert words in said


def test_the_same_run_gives_the_same_bits(erased):
    again = try_law("neural_collapse", **TINY)
    assert again.runs.equals(erased.runs)
    assert again.curves.equals(erased.curves)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"laws\.neural_collapse\.seeds: List should have at least 2 items"),
        ({"shapes": []}, r"laws\.neural_collapse\.shapes: List should have at least 1 item"),
        ({"shapes": [[1, 8, 10, 1.0]]}, r"laws\.neural_collapse\.shapes\.0\.0: .*greater than or equal to 3"),
        ({"shapes": [[6, 0, 10, 1.0]]}, r"laws\.neural_collapse\.shapes\.0\.1: .*greater than 0"),
        ({"shapes": [[6, 8, 4, 1.0]]}, r"laws\.neural_collapse\.shapes: fewer than K - 1 dimensions hold no simplex"),
        ({"ratios": [0.5, 0.9, 1.1]}, r"laws\.neural_collapse\.ratios: .* must enclose 1 within 2 %"),
        ({"dimensions": [5, 6]}, r"laws\.neural_collapse\.dimensions: .* must enclose K - 1 = 5"),
        ({"networks": [[4, "hinge", 0.1]]}, r"laws\.neural_collapse\.networks\.0\.1: .*'cross_entropy'"),
        ({"outside": [[4, "cross_entropy", -0.1]]}, r"laws\.neural_collapse\.outside\.0\.2: .*greater than or equal"),
        ({"epochs": 0}, r"laws\.neural_collapse\.epochs: .*greater than or equal to 100"),
        ({"depth": 3}, r"laws\.neural_collapse\.depth: unknown key"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"neural_collapse": dials("neural_collapse") | changed})
