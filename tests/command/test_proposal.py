"""The next runs: their cost against the planner's own bill, their worth against the interval of the larger study, and
params.yaml after --apply."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.command import main
from pipeline.corpus.prepare import prepare_corpus
from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.ladder import ladder, measured_run, with_points
from pipeline.experiments.language_model.plan import describe, plan
from pipeline.fitting.analysis import analyse
from pipeline.fitting.design import expected_interval
from pipeline.fitting.estimators import Huber
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.runs import Runs
from pipeline.params import Point, read_params
from pipeline.study import study_facts

ROOT = Path(__file__).resolve().parents[2]
STUDY = read_params(ROOT / "params.yaml").language_model
CORPUS = CorpusFacts("digest", 256, 20_000_000)
TRUTH = Chinchilla(E=0.8, A=28.0, alpha=0.35, B=75.0, beta=0.36)


def points_of(settings, corpus):
    facts = [describe(spec, settings.seed) for spec in plan(settings, corpus) if spec.kind != "trunk"]
    return np.array(sorted({(one["N_non_embedding"], one["D"]) for one in facts}), float).T


def test_the_ladder_holds_the_grid_and_two_doublings_of_both_up_to_what_the_corpus_holds():
    found = {(point.width, point.tokens) for point in ladder(STUDY, CORPUS)}
    widths, tokens = STUDY.grid.widths, STUDY.grid.tokens
    more = [2 * max(tokens), 4 * max(tokens)]
    assert found == {(width, D) for width in [*widths, 352, 704] for D in [*tokens, *more]}
    small = CorpusFacts("digest", 256, 4_000_000)
    assert found - {(point.width, point.tokens) for point in ladder(STUDY, small)} == {
        (w, more[1]) for w in [*widths, 352, 704]
    }


def test_a_point_beside_the_grid_is_the_run_that_a_larger_grid_would_have():
    larger = STUDY.grid.model_copy(update={"widths": [*STUDY.grid.widths, 352]})
    by_grid = {spec.run_id for spec in plan(STUDY.model_copy(update={"grid": larger}), CORPUS)}
    mine = {spec.run_id for spec in plan(STUDY, CORPUS)}
    grown = {spec.run_id for spec in plan(with_points(STUDY, [Point(width=352, tokens=960_000)]), CORPUS)}
    assert mine < grown < by_grid
    run = measured_run(STUDY, CORPUS, Point(width=352, tokens=960_000))
    assert {run.run_id, run.needs} <= grown - mine
    with_seed = plan(
        with_points(STUDY, [Point(width=32, tokens=120_000, seed=1), Point(width=96, tokens=120_000, seed=5)]), CORPUS
    )
    assert {(spec.settings["width"], spec.seed) for spec in with_seed if spec.run_id not in mine} == {(96, 5)}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the default parameters, a small prepared corpus, and a law fitted to losses on the default grid."""
    text = (ROOT / "params.yaml").read_text()
    packages = text[text.index("    # The Python source inside") : text.index("  tokenizer: {kind: bytes}")]
    source = f'    - {{kind: text, path: "{ROOT}/pipeline"}}\n'
    (tmp_path / "params.yaml").write_text(
        text.replace(packages, source).replace("allow_repeats: false", "allow_repeats: true")
    )
    params = read_params(tmp_path / "params.yaml")
    prepare_corpus(params.prepare, tmp_path / "data/tokens", lambda *_: None)
    N, D = points_of(params.language_model, study_facts(params, tmp_path / "data/tokens"))
    L = TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(0).standard_normal(len(N)))
    predictor = analyse(Chinchilla, Runs.of(N, D, L), Huber(), 50, 0, rolling=False).predictor
    folder = tmp_path / "results/fit/language_model"
    folder.mkdir(parents=True)
    summary = {"forecast": predictor.as_dict(), "valid_from": {"N_min": 24_000.0, "D_min": 200_000.0}}
    findings = {"experiments": {"language_model": {"summary": summary, "findings": []}}}
    (tmp_path / "results/findings.json").write_text(json.dumps(findings))
    names = [f"theta_{name}" for name in predictor.form.parameters()]
    pl.DataFrame(predictor.draws, schema=names).write_csv(folder / "draws.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path, predictor


def call(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["next", *words])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_applied_runs_cost_what_is_said_and_narrow_the_interval_as_said(project, capsys):
    folder, predictor = project
    before = (folder / "params.yaml").read_text()
    code, said, _ = call(capsys, "--flops", "4e13")
    assert (code, (folder / "params.yaml").read_text()) == (0, before)
    code, printed, _ = call(capsys, "--flops", "4e13", "--apply")
    assert code == 0
    assert printed.startswith(said)
    after = (folder / "params.yaml").read_text()
    kept = iter(after.splitlines())
    assert all(line in kept for line in before.splitlines())  # every line, comments too, in the same order
    new = read_params().language_model
    old = new.model_copy(update={"grid": new.grid.model_copy(update={"points": []})})
    added = len(after.splitlines()) - len(before.splitlines()) - 1
    assert len(new.grid.points) == added > 1
    corpus = study_facts(read_params(), folder / "data/tokens")
    known = {spec.run_id for spec in plan(old, corpus)}
    flops = sum(spec.flops for spec in plan(new, corpus) if spec.run_id not in known)
    assert flops <= 4e13
    assert f"{added} runs, {flops:.3g} of 4e+13 FLOPs" in printed
    target = predictor.budget(10 * predictor.C_range[1]).best
    widths = [
        expected_interval(
            predictor.law, *points_of(one, corpus), predictor.noise_sd, target.N, target.D
        ).target_half_width
        for one in (old, new)
    ]
    assert widths[1] < widths[0]
    assert f"+-{float(f'{100 * widths[0]:.3g}'):.10g} % becomes +-{float(f'{100 * widths[1]:.3g}'):.10g} %" in printed
    least = min(describe(measured_run(new, corpus, point), 0)["D"] for point in new.grid.points)
    assert least >= 200_000
    assert call(capsys, "--flops", "4e13", "--apply")[0] == 0
    both = read_params().language_model.grid.points
    assert both[:added] == new.grid.points
    assert len({(point.width, point.tokens) for point in both}) == len(both)


def test_a_budget_that_buys_nothing_and_no_number_are_told_in_one_line(project, capsys):
    assert call(capsys, "--flops", "1e3", "--apply")[2].startswith(
        "error: --flops: 1000 buys none of the runs beyond the grid"
    )
    for number in ("-1", "-1e3"):
        assert call(capsys, "--flops", number)[2] == f"error: --flops: {number} is not a finite positive number\n"
    assert read_params(project[0] / "params.yaml").language_model.grid.points == []
