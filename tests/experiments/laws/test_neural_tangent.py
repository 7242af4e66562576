"""Neural tangent kernel: the kernel against torch's Jacobian, finite differences and quadrature; the learning curve
against eigenvectors and predictions on the whole cube; and where networks stop being lazy."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch
from scipy.integrate import quad

from pipeline.experiments.laws.neural_tangent import judge
from pipeline.experiments.laws.neural_tangent.curve import predicted_curve, regression, spectrum
from pipeline.experiments.laws.neural_tangent.network import arc_cosine, initial, kernel, trained_apart
from tests.experiments.laws.bench import dials, read_laws, try_law

NETWORK, CURVE = (dials("neural_tangent")[part] for part in ("network", "curve"))
NETWORK |= {
    "widths": [32, 64, 128],
    "lazy_widths": [16, 64],
    "alphas": [0.1, 0.2, 0.4, 0.8, 3.0],
    "activations": ["relu"],
}
QUICK = {"seeds": list(range(8)), "network": NETWORK, "curve": CURVE | {"dimension": 10, "sizes": [8, 16, 32, 64]}}


@pytest.fixture(scope="module")
def tried():
    return try_law("neural_tangent", **QUICK)


def network(weights, X, activation):
    """f(x) written once more, layer by layer."""
    shape = {"relu": lambda Z: 2**0.5 * torch.relu(Z), "erf": torch.erf}[activation]
    signal = X
    for layer, W in enumerate(weights):
        signal = (shape(signal) if layer else signal) @ W.T / W.shape[1] ** 0.5
    return signal[:, 0]


def points(seed, num_points=5, num_inputs=3):
    return torch.randn(num_points, num_inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_kernel_is_the_product_of_torchs_jacobians(activation):
    weights, X, Y = initial(torch.Generator().manual_seed(1), 3, 7), points(2), points(3, 4)
    jacobians = [torch.func.jacrev(network)(weights, inputs, activation) for inputs in (X, Y)]
    expected = sum(a.flatten(1) @ b.flatten(1).T for a, b in zip(*jacobians, strict=True))
    torch.testing.assert_close(kernel(weights, X, Y, activation), expected, rtol=1e-12, atol=1e-12)


def test_the_kernel_is_that_of_finite_differences():
    weights, X, step = initial(torch.Generator().manual_seed(4), 3, 5), points(5), 1e-5
    columns = []
    for layer, W in enumerate(weights):
        for place in np.ndindex(*W.shape):
            sides = []
            for sign in (1, -1):
                shifted = [V.clone() for V in weights]
                shifted[layer][place] += sign * step
                sides.append(network(shifted, X, "erf"))
            columns.append((sides[0] - sides[1]) / (2 * step))
    J = torch.stack(columns, 1)
    torch.testing.assert_close(kernel(weights, X, X, "erf"), J @ J.T, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("cosine", [-0.9, -0.2, 0.0, 0.5, 0.99])
def test_the_arc_cosine_recursion_is_that_of_gaussian_integrals(cosine):
    covariance = tangent = cosine
    for _ in range(2):
        angle = np.arccos(covariance)
        low, high = angle - np.pi / 2, np.pi / 2
        both = quad(lambda _: 1 / np.pi, low, high)[0]
        covariance = quad(lambda t, apart=angle: 2 / np.pi * np.cos(t) * np.cos(t - apart), low, high)[0]
        tangent = tangent * both + covariance
    assert arc_cosine(cosine) == pytest.approx(tangent, rel=1e-8)


def test_a_very_lazy_network_takes_every_step_of_its_linearisation():
    weights, X = initial(torch.Generator().manual_seed(6), 4, 32), points(7, 30, 4)
    setup = {"num_train": 10, "rate": 0.5, "steps": 100, "activation": "erf"}
    lazy, lazier = (trained_apart(weights, X, setup | {"alpha": alpha}) for alpha in (1e5, 2e5))
    assert lazy["apart"] < 1e-4
    assert lazy["drift"] == pytest.approx(lazy["foretold"], rel=1e-3)
    assert lazy["drift"] / lazier["drift"] == pytest.approx(2, rel=1e-3)


def cube(dimension):
    """All corners, by the bits of their number, and the value of every parity at every corner, with its degree."""
    X = 1.0 - 2 * ((np.arange(2**dimension)[:, None] >> np.arange(dimension)) & 1)
    subsets = [list(bits) for r in range(dimension + 1) for bits in combinations(range(dimension), r)]
    return X, np.array([X[:, bits].prod(1) for bits in subsets]), np.array([len(bits) for bits in subsets])


def test_the_spectrum_is_that_of_the_dense_kernel():
    dimension = 7
    X, parities, degrees = cube(dimension)
    K = arc_cosine(X @ X.T / dimension)
    values, count = spectrum(dimension)
    np.testing.assert_allclose(K @ parities.T / 2**dimension, values[degrees] * parities.T, atol=1e-12)
    dense = np.sort(np.linalg.eigvalsh(K)) / 2**dimension
    np.testing.assert_allclose(dense, np.sort(np.repeat(values, count.astype(int))), atol=1e-12)


def test_the_exact_averages_are_those_of_predictions_on_the_whole_cube():
    dimension, codes = 6, np.array([3, 60, 3, 17, 42, 5, 9, 33, 28, 17])
    X, parities, degrees = cube(dimension)
    K = arc_cosine(X @ X.T / dimension)
    predicted = parities[:, codes] @ np.linalg.pinv(K[np.ix_(codes, codes)], rcond=1e-10) @ K[codes]
    shares, errors = (predicted * parities).mean(1), ((predicted - parities) ** 2).mean(1)
    share, error = regression(codes, dimension)
    for r in range(dimension + 1):
        assert share[r] == pytest.approx(shares[degrees == r].mean(), abs=1e-10)
        assert error[r] == pytest.approx(errors[degrees == r].mean(), abs=1e-10)
    assert shares.sum() == pytest.approx(len(set(codes)), abs=1e-8)


def test_the_predicted_shares_add_up_to_the_samples():
    assert spectrum(12)[1] @ predicted_curve(12, 37)[0] == pytest.approx(37, abs=1e-8)


def test_the_law_holds_and_its_boundaries_lie_where_predicted(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    assert verdicts["linearisation, rich", "control"] == "violated"


def test_the_learning_curve_fails_where_many_points_repeat(tried):
    (regime,) = tried.finding("learning curve").regime
    assert regime.high < 1
    assert regime.broke_at is not None
    assert regime.predicted is None, "theory says where a mode is missed, not where the errors leave 5 %"
    last = tried.judgement.tables["curve"].sort("size").row(-1, named=True)
    assert last["ratio_1"] > 1.15 > 1.1 > last["once_1"]


@pytest.mark.parametrize("spread", [0.3, np.nan])
@pytest.mark.parametrize("degree", [1, 3])
def test_an_error_that_is_not_known_leaves_the_learning_curve_open(tried, spread, degree):
    """At n = 8 the ratio is spread about 1 over seeds."""
    column, ratio = f"ratio_{degree}", 1 + spread * (pl.col("seed") - 3.5)
    runs = tried.runs.with_columns(pl.when(kind="curve", size=8).then(ratio).otherwise(column).alias(column))
    found = {one.law: one for one in judge(tried.settings, runs, tried.curves).findings}["learning curve"]
    assert found.verdict == "undetermined"
    assert f"degree {degree} at n = 8" in found.statement


@pytest.mark.parametrize("row", [0, -1])
def test_a_sum_of_shares_that_is_not_known_is_no_small_one(tried, row):
    curve = tried.runs.filter(kind="curve")["run_id"][row]
    lost = pl.when(pl.col("run_id") == curve).then(np.nan).otherwise("inexact").alias("inexact")
    found = judge(tried.settings, tried.runs.with_columns(lost), tried.curves).findings
    assert {one.law: one.verdict for one in found}["sum of the shares learned"] == "undetermined"


@pytest.mark.parametrize(
    ("law", "column", "slope", "verdict"),
    [
        ("drift of the kernel", "drift", -1.2, "holds"),
        ("drift of the kernel", "drift", -0.65, "violated"),
        ("distance from the linearisation", "apart", -1.3, "holds"),
        ("distance from the linearisation", "apart", -0.45, "violated"),
    ],
)
def test_the_drift_is_that_of_theory_and_the_linearisation_within_its_bound(tried, law, column, slope, verdict):
    power = pl.col("width").cast(pl.Float64) ** slope
    runs = tried.runs.with_columns(pl.when(kind="width").then(power).otherwise(column).alias(column))
    found = {one.law: one for one in judge(tried.settings, runs, tried.curves).findings}[law]
    assert found.verdict == verdict
    assert found.statement.endswith(f"h^{slope:.2f} in the narrower half, h^{slope:.2f} in the wider.")


def lazy_or_rich(tried, seed, factor):
    """The finding where the drift of one seed at the larger width is multiplied so."""
    drift = pl.when(kind="alpha", width=64, seed=seed).then(pl.col("drift") * factor).otherwise("drift").alias("drift")
    found = judge(tried.settings, tried.runs.with_columns(drift), tried.curves).findings
    return {one.law: one for one in found}["lazy or rich"]


def test_every_seed_has_a_place_where_its_networks_turn_lazy(tried):
    found = tried.finding("lazy or rich", "boundary")
    assert (found.predicted, found.interval_kind) == (1.0, "confidence")
    assert found.interval[0] < found.measured < found.interval[1]
    assert "means of 8 seeds of 8" in found.statement
    still = lazy_or_rich(tried, 3, 1e-6)
    assert still.verdict == "undetermined"
    assert "means of 7 seeds of 8" in still.statement
    shifted = lazy_or_rich(tried, 3, 2.0)
    assert shifted.measured != found.measured
    assert shifted.error > found.error


def test_every_seed_has_a_place_where_a_mode_is_missed(tried):
    found = tried.finding("sum of the shares, points drawn twice", "boundary")
    assert (found.verdict, found.interval_kind) == ("holds", "confidence")
    missing = pl.when(kind="curve", seed=0).then(0.1 * pl.col("missing")).otherwise("missing").alias("missing")
    found = judge(tried.settings, tried.runs.with_columns(missing), tried.curves).findings
    assert {one.law: one for one in found}["sum of the shares, points drawn twice"].verdict == "undetermined"


def test_networks_that_hardly_train_never_turn_rich():
    still = try_law("neural_tangent", **QUICK | {"network": NETWORK | {"steps": 1, "rate": 0.01}})
    assert still.finding("lazy or rich", "boundary").verdict == "not_reached"


def test_the_same_run_gives_the_same_bits(tried):
    assert try_law("neural_tangent", **QUICK).runs.equals(tried.runs)


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("network", {"widths": [32, 64]}, r"network\.widths: List should have at least 3 items"),
        ("network", {"widths": [0, 32, 64]}, r"network\.widths\.0: .*greater than or equal to 2"),
        ("network", {"rate": 1.5}, r"network\.rate: .*less than 1"),
        ("network", {"lazy_widths": [64, 64]}, r"network.*lazy_widths: \[64, 64\] holds a value twice"),
        ("network", {"alphas": [1.0, 3.0, 10.0]}, r"network.*alphas: s = 4 to 40 at width 16, which must span 1 to 10"),
        ("network", {"activations": ["erf"]}, r"network.*activations: \['erf'\] lacks relu"),
        ("network", {"depth": 3}, r"network\.depth: unknown key"),
        (
            "curve",
            {"sizes": [8, 16, 24]},
            r"curve.*sizes: n\^2 / 2\^\(d\+1\) is 0.0312 to 0.281, which must span 0.125 to 2",
        ),
        ("curve", {"dimension": 4, "sizes": [2, 4, 9]}, r"curve.*sizes: \[2, 4, 9\] must differ, none above half of"),
        ("curve", {"num_samples": 0}, r"curve\.num_samples: .*greater than 0"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, part, changed, message):
    with pytest.raises(ValueError, match=r"laws\.neural_tangent\." + message):
        read_laws(tmp_path, {"neural_tangent": QUICK | {part: QUICK[part] | changed}})


def test_a_single_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"laws\.neural_tangent\.seeds: List should have at least 2 items"):
        read_laws(tmp_path, {"neural_tangent": QUICK | {"seeds": [0]}})
