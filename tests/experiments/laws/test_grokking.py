"""Grokking: the written-out gradient against autograd, a run against torch.optim, and every verdict that can occur."""

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.experiments.laws.grokking import check, gradient, judge, network, run
from tests.experiments.laws.bench import dials, read_laws, try_law

QUICK = {
    "seeds": [0, 1],
    "modulus": 31,
    "decays": [0.5, 1.0, 3.0],
    "fraction": 0.65,
    "fewer": 0.3,
    "more": 0.9,
    "patience": 1000,
}
POINT = {"modulus": 11, "embedding": 8, "hidden": 16, "decay": 1.0, "rate": 0.01, "fraction": 0.7, "num_steps": 40}


@pytest.fixture(scope="module")
def tried():
    return try_law("grokking", **QUICK)


def library_logits(embedding, first, last, a, b):
    """The network as torch would have it: one table, the two embeddings side by side, two linear layers."""
    beside = torch.cat([torch.nn.functional.embedding(index, embedding) for index in (a, b)], dim=1)
    return torch.relu(beside @ first) @ last


def all_pairs(p):
    a, b = (part.flatten() for part in torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij"))
    return a, b, (a + b) % p


def test_the_gradient_is_that_of_autograd():
    a, b, answer = (part[::2] for part in all_pairs(7))
    weights, parts = network(7, 5, 6, torch.Generator().manual_seed(3))
    embedding, left, right, last = (part.clone().requires_grad_() for part in parts)
    logits = library_logits(embedding, torch.cat([left, right]), last, a, b)
    slopes = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, answer), [embedding, left, right, last])
    written = gradient(parts, a, b, answer)
    assert written.shape == weights.shape
    torch.testing.assert_close(written, torch.cat([slope.flatten() for slope in slopes]), rtol=1e-5, atol=1e-7)


def test_a_run_is_that_of_torch_optim():
    p, random = POINT["modulus"], torch.Generator().manual_seed(5)
    order = torch.randperm(p * p, generator=random)
    a, b = order // p, order % p
    answer, num_train = (a + b) % p, int(POINT["fraction"] * p * p)
    embedding, left, right, last = (part.clone() for part in network(p, 8, 16, random)[1])
    weights = [one.requires_grad_() for one in (embedding, torch.cat([left, right]), last)]
    optimiser = torch.optim.AdamW(weights, lr=0.01, betas=(0.9, 0.98), weight_decay=1.0)
    for _ in range(40):
        optimiser.zero_grad()
        logits = library_logits(*weights, a[:num_train], b[:num_train])
        torch.nn.functional.cross_entropy(logits, answer[:num_train]).backward()
        optimiser.step()
    with torch.no_grad():
        known = library_logits(*weights, a, b).argmax(1) == answer
        norm = math.sqrt(sum(float(one.square().sum()) for one in weights))
    *_, done = run(SimpleNamespace(settings=POINT, seed=5), None)
    assert done.curve["step"].tolist() == [0, 10, 20, 30, 40]
    assert done.curve["norm"][-1] == pytest.approx(norm, rel=1e-4)
    assert done.curve["train"][-1] == pytest.approx(float(known[:num_train].float().mean()), abs=0.02)
    assert done.curve["test"][-1] == pytest.approx(float(known[num_train:].float().mean()), abs=0.04)


def test_an_embedding_of_few_waves_is_told_from_noise():
    p = 31
    parts = network(p, 16, 8, torch.Generator().manual_seed(0))[1]
    noise = check(parts, all_pairs(p), 100)[2]
    angle = 2 * np.pi / p * np.outer(np.arange(p), [1, 4, 5, 7, 12])
    waves = np.concatenate([np.cos(angle), np.sin(angle), np.ones((p, 6))], axis=1)
    parts[0].copy_(torch.tensor(waves, dtype=torch.float32))
    assert noise < 0.6
    assert check(parts, all_pairs(p), 100)[2] == pytest.approx(1.0, abs=1e-5)


def test_unseen_pairs_are_learned_long_after_seen_ones_and_sooner_under_more_decay(tried):
    times = {(row["kind"], row["decay"], row["seed"]): (row["t_train"], row["t_test"]) for row in tried.runs.to_dicts()}
    for seed in QUICK["seeds"]:
        (known, weak), (_, strong) = (times["decay", decay, seed] for decay in (0.5, 1.0))
        assert weak > 1.3 * strong > 13 * known
    assert tried.finding("delayed generalisation").measured > 10
    assert tried.finding("time to grok against decay").measured < -0.4


def test_the_controls_show_no_delay_or_no_end(tried):
    assert tried.finding("delayed generalisation, more pairs", "control").measured < 12
    for law in ("grokking: no decay", "grokking: few pairs"):
        control = tried.finding(law, "control")
        assert (control.verdict, control.measured < 0.05) == ("not_reached", True)
        low, high = control.interval or (control.measured, control.measured)  # none where no seed learned a single pair
        assert 0 <= low <= control.measured <= high <= 1


def test_the_interval_of_an_accuracy_ends_at_0_and_1(tried):
    spread = tried.runs.with_columns(test_end=pl.when(seed=0).then(0.1).otherwise(0.9))
    judged = judge(tried.settings, spread, tried.curves)
    (few,) = (one for one in judged.findings if one.law == "grokking: few pairs")
    assert (few.measured, few.interval) == (pytest.approx(0.5), (0.0, 1.0))


def test_a_strong_decay_leaves_the_clock_beyond_the_bound_on_the_weights(tried):
    end = tried.finding("time to grok: end of the clock", "boundary")
    assert end.predicted == pytest.approx(1 / tried.runs.filter(kind="decay", decay=0.5)["q95"].mean())
    table = tried.judgement.tables["decays"]
    assert table["decay"][-1] > end.predicted
    assert table["kept"][-1] > 1.3


def end_of_clock(tried, last_of_seed_1, status="finished"):
    """The finding if both seeds had kept the clock up to decay 1 and seed 0 had left it at decay 3; of seed 1 the steps
    that it takes at decays 1 and 3 are given."""
    times = {(0, 0.5): 1000, (0, 1.0): 500, (0, 3.0): 250, (1, 0.5): 1600}
    times |= dict(zip([(1, 1.0), (1, 3.0)], last_of_seed_1, strict=True))
    t, ends = pl.lit(None), pl.col("status")
    for (seed, decay), steps in times.items():
        here = (pl.col("kind") == "decay") & (pl.col("seed") == seed) & (pl.col("decay") == decay)
        t = pl.when(here).then(steps).otherwise(t)
        ends = pl.when(here & (pl.lit(steps).is_null())).then(pl.lit(status)).otherwise(ends)
    judged = judge(tried.settings, tried.runs.with_columns(t_test=t, status=ends), tried.curves)
    (found,) = (one for one in judged.findings if one.law == "time to grok: end of the clock")
    return found


def test_the_end_of_the_clock_is_found_for_each_seed_and_a_run_that_never_groks_is_late_not_absent(tried):
    both = end_of_clock(tried, (800, 400))
    assert "the mean of 2 of 2 seeds" in both.statement
    assert both.measured == pytest.approx(3 ** (math.log(1.3) / math.log(1.5)))
    late = end_of_clock(tried, (800, None))  # over 1000 steps at decay 3 make 3.75 times what 1600 at 0.5 are
    assert "the mean of 2 of 2 seeds" in late.statement
    assert late.measured == pytest.approx(
        math.sqrt(both.measured * 3 ** (math.log(1.3) / math.log(3 * 1000 / (0.5 * 1600))))
    )


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ((800, 270), "finished"),  # kept to the end of the sweep
        ((None, 400), "finished"),  # over 1000 steps at decay 1 may be 1.25 times as long, or far longer
        ((800, None), "diverged"),
    ],
)
def test_a_seed_whose_end_of_the_clock_is_not_known_keeps_it_from_holding(tried, last, status):
    part = end_of_clock(tried, last, status)
    assert part.verdict == "undetermined"
    assert "the mean of 1 of 2 seeds" in part.statement


def test_nothing_but_the_rule_to_learn_violates_the_delay():
    plenty = try_law("grokking", **QUICK | {"fraction": 0.9, "more": 0.95, "modulus": 41, "patience": 250})
    assert plenty.finding("delayed generalisation, more pairs", "control").verdict == "violated"


def test_a_run_that_is_too_short_reaches_no_verdict():
    short = try_law("grokking", **QUICK | {"patience": 60})
    verdicts = {one.law: one.verdict for one in short.judgement.findings}
    assert set(verdicts.values()) == {"not_reached"}


def test_the_same_run_gives_the_same_bits():
    first, again = (try_law("grokking", **QUICK | {"patience": 40}) for _ in range(2))
    assert again.runs.equals(first.runs)
    assert again.curves.equals(first.curves)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"laws\.grokking\.seeds: List should have at least 2 items"),
        ({"fewer": 0.5}, r"laws\.grokking\.fewer, fraction, more: 0.5, 0.4, 0.8 do not ascend"),
        ({"more": 1.0}, r"laws\.grokking\.more: .*less than 1"),
        ({"decays": [1.0, 0.5, 2.0]}, r"decays, rates: \[1.0, 0.5, 2.0\] must ascend"),
        ({"decays": [0.0, 0.5, 2.0]}, r"decays\.0: .*greater than 0"),
        ({"rates": [0.01]}, r"rates: List should have at least 2 items"),
        ({"rates": [0.01, 0.01]}, r"\[0.01, 0.01\] differ"),
        ({"modulus": 2}, r"modulus: .*greater than or equal to 5"),
        ({"patience": 0}, r"patience: .*greater than or equal to 10"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"grokking": dials("grokking") | changed})
