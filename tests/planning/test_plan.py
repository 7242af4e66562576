"""The plan of the language model: every point once, the tree's savings, identities that survive a larger grid."""

import pytest

from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.plan import describe, plan, size_of
from pipeline.params import IsoFlop, Replicates, Schedule, SizesByTokens, TokensPerParameter, read_params
from pipeline.planning.table import plan_table, read_plan

STUDY = read_params().language_model
CORPUS = CorpusFacts("digest", 256, 50_000_000)
GRID = SizesByTokens(kind="sizes_by_tokens", widths=[32, 64], tokens=[100_000, 200_000, 400_000])


def settings(**changes):
    return STUDY.model_copy(update={"grid": GRID, "replicates": Replicates()} | changes)


def ids(specs):
    return {spec.run_id for spec in specs}


def points(specs):
    return [spec for spec in specs if spec.kind != "trunk"]


def test_a_tree_has_one_trunk_segment_and_one_cooldown_a_point():
    specs = plan(settings(), CORPUS)
    assert len(specs) == 12
    assert len(points(specs)) == 6
    seen = set()
    for spec in specs:
        assert spec.needs is None or spec.needs in seen
        seen.add(spec.run_id)


def test_pieces_of_a_tree_join_up():
    for spec in plan(settings(), CORPUS):
        facts = describe(spec, 0)
        per_token = facts["C"] / facts["D"]
        assert spec.flops == pytest.approx((facts["D"] - facts["start_tokens"]) * per_token)
        if spec.kind == "cooldown":
            assert facts["start_tokens"] == spec.settings["course"]["fork"]
            assert abs(facts["start_tokens"] / facts["D"] - 0.8) < 0.01
            assert abs(facts["D"] - min(GRID.tokens, key=lambda D: abs(D - facts["D"]))) < 600


def test_the_tree_costs_what_the_arithmetic_says():
    """Trunk to (1 - f) D_max, f D for each point: (0.8 * 4 + 0.2 * 7) / 7 of training each point from scratch."""
    specs = [spec for spec in plan(settings(), CORPUS) if spec.settings["width"] == 64]
    whole = sum(describe(spec, 0)["C"] for spec in points(specs))
    assert sum(spec.flops for spec in specs) / whole == pytest.approx((0.8 * 4 + 0.2 * 7) / 7, rel=0.01)


@pytest.mark.parametrize(
    "grid",
    [
        GRID.model_copy(update={"tokens": [*GRID.tokens, 800_000]}),
        GRID.model_copy(update={"tokens": [100_000, 150_000, 200_000, 400_000]}),
        GRID.model_copy(update={"tokens": [50_000, *GRID.tokens]}),
        GRID.model_copy(update={"widths": [32, 48, 64]}),
    ],
)
def test_a_larger_grid_keeps_every_run_of_the_smaller_one(grid):
    assert ids(plan(settings(), CORPUS)) < ids(plan(settings(grid=grid), CORPUS))


def test_a_larger_token_count_continues_the_last_trunk():
    before = plan(settings(), CORPUS)
    after = plan(settings(grid=GRID.model_copy(update={"tokens": [*GRID.tokens, 800_000]})), CORPUS)
    new = [spec for spec in after if spec.run_id not in ids(before)]
    assert sorted((spec.settings["width"], spec.kind) for spec in new) == [
        (32, "cooldown"), (32, "trunk"), (64, "cooldown"), (64, "trunk"),
    ]  # fmt: skip
    for spec in new:
        if spec.kind == "trunk":
            assert spec.resumes_id in ids(before)
            assert describe(spec, 0)["start_tokens"] == pytest.approx(320_000, rel=0.01)


def test_another_rate_makes_every_run_new():
    changed = settings(optimizer=STUDY.optimizer.model_copy(update={"matrix_rate": 0.02}))
    assert not ids(plan(settings(), CORPUS)) & ids(plan(changed, CORPUS))


def test_another_validation_set_keeps_the_trunks():
    changed = settings(evaluation=STUDY.evaluation.model_copy(update={"windows": 100}))
    kept = ids(plan(settings(), CORPUS)) & ids(plan(changed, CORPUS))
    assert len(kept) == 6


def test_replicates_repeat_part_of_the_grid_with_other_seeds():
    specs = plan(settings(replicates=Replicates(seeds=[1, 2], widths=[32], max_tokens=200_000)), CORPUS)
    again = [spec for spec in points(specs) if spec.seed]
    assert {spec.seed for spec in again} == {1, 2}
    assert {(describe(spec, 0)["width"], describe(spec, 0)["role"]) for spec in again} == {(32, "replicate")}
    assert len(again) == 4


def test_cosine_runs_start_from_scratch():
    specs = plan(settings(schedule=Schedule(kind="cosine", warmup_tokens=12_800)), CORPUS)
    assert {spec.kind for spec in specs} == {"scratch"}
    assert all(spec.needs is None for spec in specs)
    assert sum(spec.flops for spec in specs) == sum(describe(spec, 0)["C"] for spec in specs)


def test_isoflop_points_cost_their_budget():
    grid = IsoFlop(kind="isoflop", widths=[32, 48, 64], flops=[1e11, 3e11])
    for spec in points(plan(settings(grid=grid), CORPUS)):
        assert min(abs(describe(spec, 0)["C"] / C - 1) for C in grid.flops) < 0.01


def test_tokens_per_parameter_points_have_their_ratio():
    grid = TokensPerParameter(kind="tokens_per_parameter", widths=[32, 64], ratios=[5.0, 20.0])
    for spec in points(plan(settings(grid=grid), CORPUS)):
        facts = describe(spec, 0)
        assert min(abs(facts["D"] / facts["N_non_embedding"] / ratio - 1) for ratio in grid.ratios) < 0.01


def test_more_tokens_than_the_corpus_holds_need_leave():
    small = CorpusFacts("digest", 256, 300_000)
    with pytest.raises(ValueError, match=r"grid.tokens: 400000: D = 400,000 tokens are more than the 299,968"):
        plan(settings(), small)
    assert len(plan(settings(allow_repeats=True), small)) == 12


def test_a_run_within_the_warm_up_is_refused():
    with pytest.raises(ValueError, match=r"grid.tokens: 10000: D = 10,000 tokens end within the warm-up"):
        plan(settings(grid=GRID.model_copy(update={"tokens": [10_000]})), CORPUS)


def test_a_model_that_no_table_can_count_is_refused():
    with pytest.raises(
        ValueError, match=r"^params.yaml: language_model.model: 1.23e\+19 parameters at width 32 do not"
    ):
        plan(settings(model=STUDY.model.model_copy(update={"depth": 10**15})), CORPUS)


def test_sizes_follow_the_width():
    assert size_of(STUDY.model, 256, 64).N_non_embedding == 12 * STUDY.model.depth * 64**2


def test_the_plan_reads_back_from_its_table(tmp_path):
    specs = plan(settings(), CORPUS)
    plan_table(specs, [describe(spec, 0) for spec in specs]).write_parquet(tmp_path / "runs.parquet")
    table, read = read_plan(tmp_path / "runs.parquet")
    assert {spec.run_id: spec for spec in read} == {spec.run_id: spec for spec in specs}
    assert table["run_id"].to_list() == [spec.run_id for spec in read]
    assert table.sort("N_non_embedding", "D")["C"].to_list() == table["C"].to_list()
