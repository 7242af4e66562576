"""Learning rates over width: muP against its other form (a multiplier on the output), the first Adam step in closed
form, the optimum against numpy's parabola, the study's own trainer against the study; and every verdict."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.experiments.experiment import RunContext, StudyFacts
from pipeline.experiments.language_model.plan import plan as plan_study
from pipeline.experiments.language_model.run import run as run_study
from pipeline.experiments.laws.mup_transfer import Tuned, draw, judge
from pipeline.experiments.laws.mup_transfer import plan_study as plan_tuned
from pipeline.experiments.laws.mup_transfer.network import changes, initial_weights, rates, teacher, trained_loss
from pipeline.experiments.laws.mup_transfer.valley import estimate, valley_of
from pipeline.params import Evaluation, Replicates, SizesByTokens, read_params
from tests.experiments.laws.bench import dials, digest_of, read_laws, try_law

NETWORK = dials("mup_transfer")["network"]
QUICK = NETWORK | {"seeds": [0, 1, 2], "widths": [64, 128, 256], "log2_rates": [-11, -10, -9, -8, -7, -6]}
TINY = NETWORK | {"seeds": [0, 1, 2, 3], "widths": [4, 8, 16], "check_widths": [4, 8, 16], "num_steps": 4}
SETUP = {"num_inputs": 8, "num_classes": 3, "activation": "tanh", "batch": 16, "num_steps": 10, "width": 24,
         "base_width": 6, "parametrization": "mup"}  # fmt: skip
STUDY = {
    "seeds": list(range(8)),
    "widths": [16, 32],
    "log2_factors": [-3, 0, 2, 5, 100],
    "windows": 64,
    "tokens": 20_000,
}


@pytest.fixture(scope="module")
def tried():
    return try_law("mup_transfer", network=QUICK, language_model=None)


@pytest.fixture(scope="module")
def studied(tokens):
    return try_law("mup_transfer", tokens, network=TINY, language_model=STUDY)


def table(exponents, losses):
    rows = [(seed, x, y) for seed, row in enumerate(losses) for x, y in zip(exponents, row, strict=True)]
    return pl.DataFrame(rows, schema=["seed", "exponent", "loss"], orient="row")


def test_the_optimum_is_that_of_the_parabola_through_the_three_lowest_points():
    exponents, losses = [-3.0, -1.0, 0.0, 2.0, 3.0], np.array([[5.0, 2.2, 2.0, 2.9, 9.0], [5.0, 2.0, 2.1, 3.5, 8.0]])
    valley = valley_of(table(exponents, losses), "exponent")
    a, b, c = np.polyfit([-1.0, 0.0, 2.0], losses.mean(axis=0)[1:4], 2)
    assert valley.optimum[0] == pytest.approx(-b / (2 * a))
    assert valley.lowest[0] == pytest.approx(c - b * b / (4 * a))
    assert valley.regret(2.0)[0] == pytest.approx(losses[:, 3].mean() / valley.lowest[0] - 1)
    level = valley.at(0.0)
    assert estimate(level).error == pytest.approx(losses[:, 2].std(ddof=1) / 2**0.5)


@pytest.mark.parametrize("losses", [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 1.0, None], [None, 1.0, 2.0]])
def test_a_lowest_loss_at_the_edge_or_beside_a_diverged_run_is_no_optimum(losses):
    valley = valley_of(table([-1.0, 0.0, 1.0], [losses, losses]), "exponent")
    assert not valley.bracketed
    assert estimate(valley.optimum).value is None


def test_the_rates_are_those_of_an_output_multiplier():
    """muP written with one rate for the output, whose sums are multiplied by w0 / w: the same training."""
    shrink = SETUP["base_width"] / SETUP["width"]
    draw, (first, second, output) = teacher(SETUP, 3), initial_weights(SETUP, 3)
    inputs, labels = draw(2048)

    def logits(x):
        return shrink * torch.tanh(torch.tanh(x @ first) @ second) @ output

    adam = torch.optim.Adam([{"params": [first, output]}, {"params": [second], "lr": 0.01 * shrink}], lr=0.01)
    for _ in range(SETUP["num_steps"]):
        x, y = draw(SETUP["batch"])
        adam.zero_grad()
        torch.nn.functional.cross_entropy(logits(x), y).backward()
        adam.step()
    loss = torch.nn.functional.cross_entropy(logits(inputs), labels).item()
    assert loss < 0.97 * np.log(3)
    assert trained_loss(SETUP, 3, 0.01) == pytest.approx(loss, rel=1e-4)
    assert trained_loss(SETUP | {"parametrization": "standard"}, 3, 0.01) != pytest.approx(loss, rel=1e-2)


def test_the_first_step_changes_the_output_by_the_sign_of_its_gradient():
    """The output starts at zero and Adam's first step is the rate times the sign of the gradient."""
    inputs, labels = (part.numpy() for part in teacher(SETUP, 1)(SETUP["batch"]))
    first, second, _ = (weight.detach().numpy() for weight in initial_weights(SETUP, 1))
    units = np.tanh(np.tanh(inputs @ first) @ second)
    gradient = units.T @ (1 / 3 - np.eye(3)[labels])
    change = units @ np.sign(gradient) * 0.001 * SETUP["base_width"] / SETUP["width"]
    measured = changes(SETUP | {"num_steps": 1, "rate": 0.001}, 1)
    assert measured["output"] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-4)
    assert measured["first_layer"] == measured["second_layer"] == 0


def test_at_the_base_width_both_parametrizations_are_one():
    base = SETUP | {"width": SETUP["base_width"]}
    assert rates(base, 0.1) == rates(base | {"parametrization": "standard"}, 0.1) == (0.1, 0.1, 0.1)


def test_the_rate_transfers_under_mup_alone_and_the_end_lies_where_predicted(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    assert {verdict for (_, role), verdict in verdicts.items() if role == "control"} == {"violated"}
    assert tried.judgement.summary["study"] is None
    best = tried.judgement.tables["optima"].filter(pl.col("width") == 256)
    mup, standard = best.sort("parametrization")["log2_optimum"]
    assert mup - standard == pytest.approx(2, abs=0.4), "one rate for all is w / w0 = 4 times too high"


def test_narrow_networks_violate_the_coordinate_check_and_show_no_optimum_at_the_edge(studied):
    assert studied.finding("coordinate check").verdict == "violated"
    assert studied.finding("the best rate transfers").verdict == "not_reached"
    assert studied.finding("end of transfer, one rate for all", "boundary").verdict == "not_reached"


@pytest.mark.parametrize("spread", [1.0, np.nan])
def test_a_layer_whose_slope_is_not_known_leaves_the_coordinate_check_open(tried, spread):
    """The slopes of the first layer are spread over seeds, their mean stays zero."""
    bent = pl.col("width").cast(pl.Float64) ** (spread * (pl.col("seed") - 1))
    own = (pl.col("kind") == "coordinates") & (pl.col("parametrization") == "mup")
    runs = tried.runs.with_columns(pl.when(own).then(bent).otherwise("first_layer").alias("first_layer"))
    found = {one.law: one for one in judge(tried.settings, runs, tried.curves).findings}["coordinate check"]
    assert found.verdict == "undetermined"
    assert "of the first layer" in found.statement


def test_the_study_is_trained_by_its_own_trainer_at_its_own_rate(studied, tokens, tmp_path):
    """Reference: the study's own trunk and cooldown at the same point."""
    facts = StudyFacts(digest_of(tokens), 256, 5_000_000, small_study())
    trunk, cooldown = plan_study(facts.language_model, facts)
    for spec, origin in ((trunk, None), (cooldown, str(tmp_path / trunk.run_id))):
        *_, last = run_study(spec, RunContext(str(tokens), origin, str(tmp_path / spec.run_id), 60.0, 8192))
    own = studied.runs.filter(kind="language_model", width=16, log2_factor=0.0, seed=0)
    assert own["loss"].item() == last.scalars["loss"]
    assert own["course.end"].item() == cooldown.settings["course"]["end"]


def small_study():
    """The study's model at one point: width 16, 20,000 tokens."""
    grid = SizesByTokens(kind="sizes_by_tokens", widths=[16], tokens=[20_000])
    evaluation = Evaluation(windows=64, windows_per_document=4)
    changed = {"grid": grid, "replicates": Replicates(), "evaluation": evaluation}
    return read_params().language_model.model_copy(update=changed)


def test_the_smallest_count_of_the_study_is_the_one_that_is_tried():
    facts = StudyFacts("", 256, 5_000_000, small_study())
    dialled = Tuned(**STUDY | {"tokens": None, "widths": [16, 48]})
    planned = list(plan_tuned(dialled, facts))
    (point,) = [spec for spec in plan_study(facts.language_model, facts) if spec.kind == "cooldown"]
    assert {spec.settings["course"]["end"] for spec in planned} == {point.settings["course"]["end"]}
    rates_at_48 = [
        spec.settings["optimizer"]["matrix_rate"] / point.settings["optimizer"]["matrix_rate"]
        for spec in planned
        if spec.seed == 0 and spec.settings["width"] == 48
    ]
    assert rates_at_48 == [2.0**factor for factor in STUDY["log2_factors"]]


def test_a_study_that_trains_too_slowly_learns_by_how_much(studied):
    """So few tokens ask for a faster rate than the study's; the fastest runs diverge and disturb nothing."""
    assert set(studied.runs.filter(log2_factor=100.0)["status"]) == {"diverged"}
    study, losses = studied.judgement.summary["study"], studied.judgement.tables["language_model"]
    vertices, regrets = [], []
    for width in (16, 32):
        own, best, high = losses.filter(pl.col("factor").is_between(1, 32), width=width)["loss"]
        a, b, c = np.polyfit([0, 2, 5], [own, best, high], 2)
        vertices.append(-b / (2 * a))
        regrets.append(own / (c - b * b / (4 * a)) - 1)
    assert study["factor"] == pytest.approx(2 ** vertices[1])
    assert study["regret"] == pytest.approx(max(regrets))
    assert study["inside"] is False
    assert study["sentence"] in studied.judgement.summary["says"]
    moved = studied.finding("the best rate transfers, model of this study")
    assert moved.measured == pytest.approx(vertices[1] - vertices[0])


@pytest.mark.parametrize(("left_out", "inside"), [([5.0], False), ([2.0, 5.0], None)])
def test_a_study_whose_faster_runs_all_diverge_has_no_best_rate(studied, left_out, inside):
    """Where only a bound on the regret is known, it can still tell that the study's rate is not the best one."""
    fewer = studied.runs.filter(~pl.col("log2_factor").is_in(left_out) | pl.col("log2_factor").is_null())
    found = judge(studied.settings, fewer, studied.curves)
    (moved,) = [one for one in found.findings if one.law == "the best rate transfers, model of this study"]
    assert moved.verdict == "not_reached"
    assert found.summary["study"]["inside"] is inside
    assert found.summary["study"]["factor"] is None
    assert "edge of the sweep" in found.summary["study"]["sentence"]


def test_every_finding_has_its_figure_even_where_there_is_no_optimum(studied):
    found = studied.judgement
    figures = draw(found.summary, found.tables, studied.runs, studied.curves)
    assert {one.figure for one in found.findings} == {figure.name for figure in figures}
    assert "nan" not in json.dumps([one.as_dict() for one in found.findings], allow_nan=False)


def test_the_same_run_gives_the_same_bits():
    fewer = TINY | {"seeds": [0, 1]}
    first, again = (try_law("mup_transfer", network=fewer, language_model=None) for _ in range(2))
    assert again.runs.equals(first.runs)
    assert again.curves.equals(first.curves)


def test_a_width_that_the_study_cannot_have_is_refused(tokens):
    with pytest.raises(ValueError, match=r"language_model\.widths: 40 is not divisible by model\.head_size 16"):
        try_law("mup_transfer", tokens, network=TINY, language_model=STUDY | {"widths": [16, 40]})


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("network", {"seeds": [0]}, r"network\.seeds: List should have at least 2 items"),
        ("network", {"widths": [64, 0, 128]}, r"network\.widths\.1: .*greater than 0"),
        ("network", {"widths": [64, 128]}, r"network\.widths: List should have at least 3 items"),
        ("network", {"widths": [64, 128, 128]}, r"network\.widths: \[64, 128, 128\] must ascend"),
        ("network", {"log2_rates": [-9, -8]}, r"network\.log2_rates: List should have at least 5 items"),
        ("network", {"check_rate": -0.1}, r"network\.check_rate: .*greater than 0 \(value -0.1\)"),
        ("network", {"num_classes": 1}, r"network\.num_classes: .*greater than or equal to 2"),
        ("network", {"depth": 3}, r"network\.depth: unknown key"),
        ("language_model", {"log2_factors": [0, 1, 2]}, r"language_model\.log2_factors: .* room on both sides"),
        ("language_model", {"widths": [32, 16]}, r"language_model\.widths: \[32, 16\] must ascend"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, part, changed, message):
    given = dials("mup_transfer")
    with pytest.raises(ValueError, match=r"laws\.mup_transfer\." + message):
        read_laws(tmp_path, {"mup_transfer": given | {part: given[part] | changed}})
