"""Proves that `study predict` gives the optimum and the losses of a known law, with intervals that hold them.

Reference: the closed form of arXiv 2203.15556, eq. 4, and numerical minima of the known law.
"""

import json

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar

from pipeline.command import main
from tests.command.known_laws import TRUTH, design, loss, noise, table

G = (TRUTH["alpha"] * TRUTH["A"] / (TRUTH["beta"] * TRUTH["B"])) ** (1 / (TRUTH["alpha"] + TRUTH["beta"]))


@pytest.fixture
def fitted(fit_of, tmp_path):
    """A fit of noisy runs, as the file that `study fit` writes."""
    N, D = design(120)
    found = fit_of(table(N, D, loss(N, D) * noise(120, 0.004)))
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(found.json), encoding="utf-8")
    return path


def best(C):
    """(N*, L*) of the known law."""
    N = G * (C / 6) ** (TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"]))
    return N, loss(N, C / 6 / N)


def test_a_budget_is_spent_as_the_known_law_says(study, fitted):
    found = study("predict", "--from", fitted, "--flops", "1e22").json
    N, L = best(1e22)
    assert found["params_interval"][0] < N < found["params_interval"][1]
    assert found["tokens_interval"][0] < 1e22 / 6 / N < found["tokens_interval"][1]
    assert found["interval"][0] < L < found["interval"][1]
    (low, high), (lower, higher) = found["interval"], found["prediction_interval"]
    assert lower < low < found["loss"] < high < higher
    assert 6 * found["params"] * found["tokens"] == pytest.approx(found["flops"]) == 1e22
    assert found["tokens_per_parameter"] == pytest.approx(found["tokens"] / found["params"])
    assert found["flat_params"][0] < found["params"] < found["flat_params"][1]
    assert found["source"] == str(fitted)
    assert found["warnings"] == []
    assert found["serving"] is None


def test_the_best_size_is_the_least_of_the_fitted_law(study, fitted):
    params = json.loads(fitted.read_text(encoding="utf-8"))["params"]

    def log_loss(log_N):
        N = np.exp(log_N)
        return params["E"] + params["A"] / N ** params["alpha"] + params["B"] / (1e21 / 6 / N) ** params["beta"]

    least = minimize_scalar(log_loss, bounds=(np.log(1e7), np.log(1e12)), method="bounded", options={"xatol": 1e-9})
    found = study("predict", "--from", fitted, "--flops", "1e21").json
    assert found["params"] == pytest.approx(np.exp(least.x), rel=1e-4)
    assert found["loss"] == pytest.approx(least.fun, rel=1e-9)


def test_one_run(study, fitted):
    found = study("predict", "--from", fitted, "--params", "3e9", "--tokens", "2e11").json
    assert found["interval"][0] < loss(3e9, 2e11) < found["interval"][1]
    assert found["flops"] == pytest.approx(6 * 3e9 * 2e11)
    assert (found["params"], found["tokens"], found["params_interval"]) == (3e9, 2e11, None)


def test_serving_makes_the_model_smaller(study, fitted):
    found = study("predict", "--from", fitted, "--flops", "1e22", "--serve", "1e13")
    one = found.json["serving"]
    assert one["params"] < found.json["params"]
    assert one["tokens"] > found.json["tokens"]
    assert one["loss"] == found.json["loss"]
    whole = found.json["flops"] + 2 * found.json["params"] * 1e13
    assert one["flops_train"] + one["flops_serve"] < whole
    assert "tokens served" in found.out


def test_far_beyond_the_runs_is_said(study, fitted):
    found = study("predict", "--from", fitted, "--flops", "1e26")
    assert found.code == 0
    assert found.json["extrapolation"] > 10
    assert found.warned == {"far_extrapolation", "far_N", "far_D"}
    assert "\nfar_extrapolation: " in found.out


def test_a_law_of_compute_predicts_from_compute(study, fit_of, tmp_path):
    C = np.geomspace(1e17, 1e22, 30)
    fit = fit_of(pl.DataFrame({"C": C, "L": (1.5 + 900 / C**0.16) * noise(30, 0.001)}), "--law", "saturating").json
    (tmp_path / "fit.json").write_text(json.dumps(fit), encoding="utf-8")
    found = study("predict", "--from", tmp_path / "fit.json", "--flops", "5e22").json
    assert found["interval"][0] < 1.5 + 900 / 5e22**0.16 < found["interval"][1]
    assert (found["params"], found["tokens"], found["flops"]) == (None, None, 5e22)
    assert found["extrapolation"] == pytest.approx(5)


def test_a_law_of_compute_predicts_from_compute_whatever_else_the_table_holds(study, fit_of, tmp_path):
    N, D = design(40)
    C = 6.5 * N * D
    rows = table(N, D, (1.5 + 900 / C**0.16) * noise(40, 0.001), C=C)
    fit = fit_of(rows, "--law", "saturating", "--holdout", 0)
    assert fit.json["span"]["N"] == [N.min(), N.max()]
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(fit.json), encoding="utf-8")
    found = study("predict", "--from", path, "--flops", "5e22").json
    assert found["interval"][0] < 1.5 + 900 / 5e22**0.16 < found["interval"][1]
    assert (found["params"], found["tokens"], found["flops"]) == (None, None, 5e22)
    assert study("predict", "--from", path, "--params", "1e9", "--tokens", "2e10").json["flops"] == 6 * 2e19
    assert "--tokens is missing" in study("predict", "--from", path, "--params", "1e9").err
    refused = study("predict", "--from", path, "--flops", "5e22", "--serve", "1e12")
    assert "--serve: the law saturating_C knows no size" in refused.err


def test_recipes_are_chosen_by_name(study, fit_of, tmp_path):
    N, D = design(120)
    second = np.arange(120) % 2
    L = loss(N * 2.0**second, D) * noise(120, 0.002)
    rows = table(N, D, L, recipe=np.where(second, "new", "old"))
    (tmp_path / "fit.json").write_text(json.dumps(fit_of(rows, "--law", "two_recipes").json), encoding="utf-8")
    words = ["predict", "--from", tmp_path / "fit.json", "--flops", "1e21"]
    old, new = (study(*words, "--recipe", name).json for name in ("old", "new"))
    assert old["loss"] == pytest.approx(best(1e21)[1], rel=0.005)
    assert new["loss"] == pytest.approx(best(2e21)[1], rel=0.005)
    assert "--recipe: 'other' is none of old, new" in study(*words, "--recipe", "other").err


def test_the_study_of_this_folder_is_the_default(study, fitted, tmp_path, monkeypatch):
    fit = json.loads(fitted.read_text(encoding="utf-8"))
    folder = tmp_path / "elsewhere"
    (folder / "results/fit/language_model").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert study("predict", "--flops", "1e21").err.startswith("error: results/findings.json: no study here yet")
    summary = {"experiments": {"language_model": {"findings": [], "summary": {"forecast": None}}}}
    findings = folder / "results/findings.json"
    findings.write_text(json.dumps(summary), encoding="utf-8")
    assert "this study has no law that predicts" in study("predict", "--flops", "1e21").err
    summary["experiments"]["language_model"]["summary"]["forecast"] = fit["predictor"]
    findings.write_text(json.dumps(summary), encoding="utf-8")
    assert "draws.csv: no such file" in study("predict", "--flops", "1e21").err
    names = [f"theta_{name}" for name in TRUTH]
    pl.DataFrame(fit["draws"], schema=names, orient="row").write_csv("results/fit/language_model/draws.csv")
    own, other = study("predict", "--flops", "1e21").json, study("predict", "--flops", "1e21", "--from", fitted).json
    assert own["source"] == "results/findings.json"
    assert own | {"source": ""} == other | {"source": ""}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing asked"),
        (["--flops", "1e21", "--params", "1e9"], "give one or the other"),
        (["--params", "1e9"], "--tokens is missing"),
        (["--tokens", "1e9"], "--params is missing"),
        (["--params", "1e9", "--tokens", "1e9", "--serve", "1e9"], "--serve needs --flops"),
        (["--flops", "-1"], "--flops: -1 is not a finite positive number"),
        (["--flops", "-1e22"], "--flops: -1e22 is not a finite positive number"),
        (["--flops", "-inf"], "--flops: -inf is not a finite positive number"),
        (["--params", "-1.5E+9", "--tokens", "2e10"], "--params: -1.5E+9 is not a finite positive number"),
        (["--flops", "0"], "--flops: 0 is not a finite positive number"),
        (["--flops", "nan"], "--flops: nan is not a finite positive number"),
        (["--flops", "many"], "--flops: 'many' is not a number"),
        (["--flops", "1e21", "--recipe", "a"], "--recipe: the law chinchilla has no recipe"),
        (["--flops", "1e21", "--unique-tokens", "1e9"], "--unique-tokens: the law chinchilla has no unique_tokens"),
    ],
)
def test_options_that_cannot_be(study, fitted, words, told):
    found = study("predict", "--from", fitted, *words)
    assert (found.code in (1, 2), found.out, found.json) == (True, "", None)
    assert told in found.err
    assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        ("[]", "list, not an object"),
        ("{}", "not a fit"),
        ('{"status": "converged", "predictor": {"law": "cubic"}, "draws": []}', "law: 'cubic' is none of"),
    ],
)
def test_a_file_that_is_no_fit(study, tmp_path, content, told):
    if content is not None:
        (tmp_path / "fit.json").write_text(content, encoding="utf-8")
    found = study("predict", "--from", tmp_path / "fit.json", "--flops", "1e21")
    assert (found.code, found.out) == (1, "")
    assert "fit.json: " in found.err
    assert told in found.err
    assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("num_runs", "words", "why"),
    [
        (6, [], "6 distinct (N, D) for 5 parameters: no interval can be given"),
        (40, ["--bootstrap", 0], "no resamples were asked for (--bootstrap 0)"),
        (6, ["--bootstrap", 0], "no resamples were asked for (--bootstrap 0)"),
    ],
)
def test_a_fit_without_intervals_says_why(study, fit_of, tmp_path, num_runs, words, why):
    N, D = design(num_runs)
    fit = fit_of(table(N, D, loss(N, D)), *words)
    assert f"\nno intervals: {why}\n" in fit.out
    (tmp_path / "fit.json").write_text(json.dumps(fit.json), encoding="utf-8")
    found = study("predict", "--from", tmp_path / "fit.json", "--flops", "1e21")
    assert found.err.endswith(f"nothing can be predicted from a fit without intervals: {why}\n")


def test_a_plateau_that_stands_by_despite_has_no_intervals(fit_of):
    N, D = design(40)
    found = fit_of(table(N, D, 2.0 * noise(40, 0.01)), "--despite", "plateau", "--holdout", 0)
    assert found.code == 0
    assert "no intervals: runs of a fit that stands only by --despite are not resampled" in found.out


def test_a_refused_fit_predicts_nothing(study, fit_of, tmp_path):
    N = np.geomspace(1e7, 1e10, 30)
    refused = fit_of(table(N, 20 * N, loss(N, 20 * N)))
    (tmp_path / "fit.json").write_text(json.dumps(refused.json), encoding="utf-8")
    found = study("predict", "--from", tmp_path / "fit.json", "--flops", "1e21")
    assert (found.code, found.json) == (1, None)
    assert "nothing can be predicted from a fit refused: " in found.err
    assert "collinear" in found.err


def test_the_fit_is_not_written_over(fitted, capsys):
    before = fitted.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--from", str(fitted), "--flops", "1e22", "--json", str(fitted)])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: --json: {fitted} is the file of --from, which would be lost\n"
    assert fitted.read_bytes() == before
