"""Proves that `study fit` gives back known laws, the published fit of the Chinchilla runs, and no law it cannot give.

References: laws that the tables were drawn from; Besiroglu et al. 2024 (arXiv 2404.10102), whose data lie in the folder
named by STUDY_PUBLISHED_DATA; the exponents of gradient flow on power-law data, alpha_C = (b - 1) / (1 + a).
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.command import main
from tests.command.known_laws import TRUTH, design, gradient_flow, loss, noise, table


@pytest.fixture
def chinchilla(tmp_path):
    folder = os.environ.get("STUDY_PUBLISHED_DATA")
    if not folder or not (path := Path(folder) / "chinchilla_epoch_2024.csv").exists():
        pytest.skip("STUDY_PUBLISHED_DATA names no folder with chinchilla_epoch_2024.csv (arXiv 2404.10102)")
    rows = pl.read_csv(path).with_row_index().sort("loss").head(240).sort("index").drop("index")
    rows.write_csv(tmp_path / "chinchilla.csv")
    return tmp_path / "chinchilla.csv"


def test_exact_runs_give_the_law_back(fit_of):
    N, D = design()
    found = fit_of(table(N, D, loss(N, D)))
    assert found.code == 0
    assert found.json["status"] == "converged"
    for name, value in TRUTH.items():
        assert found.json["params"][name] == pytest.approx(value, rel=1e-6), name
    assert found.json["frontier"]["a"] == pytest.approx(0.28 / 0.62, rel=1e-6)


def test_intervals_of_noisy_runs_hold_the_law(fit_of):
    N, D = design(120)
    found = fit_of(table(N, D, loss(N, D) * noise(120, 0.01)), "--cluster", "size", "--holdout", "0.7").json
    for name, value in TRUTH.items():
        low, high = found["intervals"][name]
        assert low < value < high, name
        assert found["standard_errors"][name] > 0
    assert set(found["cluster_intervals"]) == set(TRUTH)
    assert found["noise_sd"] == pytest.approx(0.01, rel=0.3)
    assert len(found["draws"]) == 1000
    rolling, split = found["holdout"]["rolling"], found["holdout"]["split"]
    assert len(rolling) == 4
    assert sum(one["num_test"] for one in rolling) == found["holdout"]["num_tested"] == 60
    assert split["num_train"] + split["num_test"] == 120
    assert split["rms"] == pytest.approx(0.01, rel=0.5)


def test_clusters_too_few_for_intervals_are_told_and_cells_stand_in(fit_of):
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 8)))
    found = fit_of(table(N, D, loss(N, D) * noise(40, 0.004)), "--cluster", "size").json
    assert found["cluster_intervals"] is None
    (told,) = [one["text"] for one in found["warnings"] if one["name"] == "few_clusters"]
    assert "5 clusters leave no interval for 5 parameters, at least 8 would" in told
    low, high = found["frontier"]["a_interval"]
    assert low < found["frontier"]["a"] < high


def test_intervals_by_cluster_stand_beside_those_by_cell_and_are_named(fit_of):
    N, D = design(48)
    host = np.resize(np.arange(12), 48)
    L = loss(N, D) * noise(48, 0.002) * noise(12, 0.01, seed=3)[host]
    words = ["--cluster", "host", "--holdout", 0, "--bootstrap", 200, "--published", "alpha=0.34,source=x"]
    found = fit_of(table(N, D, L, host=host), *words)
    cell, cluster = found.json["resampling"]
    assert ("48 (N, D) cells" in cell, "12 values of host" in cluster) == (True, True)
    resampled = found.json["resampled"]
    assert {key for key, method in resampled.items() if method == cell} == {"standard_errors", "intervals"}
    assert {"cluster_standard_errors", "cluster_intervals", "frontier", "predictor", "published"} <= {
        key for key, method in resampled.items() if method == cluster
    }
    (row,) = found.json["published"]["rows"]
    assert row["interval"] == found.json["cluster_intervals"]["alpha"] != found.json["intervals"]["alpha"]
    head, first = (re.split(r" {2,}", line) for line in found.out.split("\n\n")[1].splitlines()[:2])
    assert head == ["parameter", "value", "std. error", "95 % interval", "error by cluster", "interval by cluster"]
    assert len(first) == 6
    assert f"\nintervals by cluster, and of all that follows from the law: {cluster}\n" in found.out


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"N": "params", "D": "tokens", "L": "val_loss"}, "N = params, D = tokens, L = val_loss"),
        ({"N": "params", "C": "flops", "L": "loss"}, "N = params, D = C / 6 N, L = loss, C = flops"),
    ],
)
def test_the_columns_that_were_read_are_printed(fit_of, named, told):
    N, D = design(12)
    rows = table(N, D, loss(N, D), C=6 * N * D).select(pl.col(letter).alias(name) for letter, name in named.items())
    assert f"\ncolumns    {told}\n" in fit_of(rows, "--bootstrap", 0, "--holdout", 0).out
    alone = rows.select(pl.last(), pl.first().alias("flops"))
    assert re.search(r"\ncolumns +L = \w+, C = flops\n", fit_of(alone, "--law", "saturating", "--bootstrap", 0).out)


def test_the_law_that_predicts_larger_runs_is_chosen_and_said_to_be(fit_of):
    bent = fit_of(table(*gradient_flow(1.5, 2.0)), "--law", "auto").json
    assert (bent["law"], bent["answered"]) == ("q_form", True)
    N, D = design(80)
    straight = fit_of(table(N, D, loss(N, D) * noise(80, 0.003)), "--law", "auto")
    assert straight.json["law"] == "chinchilla"
    assert [row["law"] for row in straight.json["compared"] if row["chosen"]] == ["chinchilla"]
    assert "chosen_law" in [one["name"] for one in straight.json["warnings"]]
    assert len(straight.json["compared"]) == 5
    assert "chinchilla (chosen)" in straight.out


def test_where_no_law_can_be_tested_none_is_said_to_be_chosen(fit_of):
    N, D = design(40)
    found = fit_of(table(N, D * 0 + 1e9, loss(N, D)), "--law", "auto")
    assert not any(row["chosen"] for row in found.json["compared"])
    assert "(chosen)" not in found.out
    assert "none chosen" in found.out
    (said,) = [one["text"] for one in found.json["warnings"] if one["name"] == "chosen_law"]
    assert said.startswith("no law could be tested")


def test_an_exponent_that_the_form_fixes_has_no_interval(fit_of):
    N, D = design(80)
    found = fit_of(table(N, D, loss(N, D) * noise(80, 0.003)), "--law", "tied")
    assert (found.json["frontier"]["a"], found.json["frontier"]["a_interval"]) == (0.5, None)
    assert "a = 0.5, b = 0.5, fixed by the form of the law" in found.out


@pytest.mark.parametrize("estimator", ["huber", "l1", "l2", "l2-linear", "asymmetric"])
def test_every_estimator_names_itself_and_finds_exact_runs(fit_of, estimator):
    N, D = design()
    found = fit_of(table(N, D, loss(N, D)), "--estimator", estimator, "--bootstrap", 0, "--holdout", 0)
    assert found.json["params"]["alpha"] == pytest.approx(0.34, rel=1e-3)
    assert found.json["estimator"] in found.out
    assert found.json["predictor"] is None
    assert found.json["intervals"]["alpha"] is None
    assert "untested" in found.warned


def test_chinchilla_runs_give_the_published_fit(study, chinchilla):
    found = study("fit", chinchilla, "--delta", "1e-3", "--bootstrap", 4000).json
    assert found["num_runs"] == 240
    assert found["objective"] == pytest.approx(0.0010182740178006, rel=1e-6)
    expected = {"A": 477.825868, "B": 2143.417363, "E": 1.8172181, "alpha": 0.3473104989, "beta": 0.3671724326}
    errors = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
    for name, value in expected.items():
        assert found["params"][name] == pytest.approx(value, rel=1e-6), name
        assert found["standard_errors"][name] == pytest.approx(errors[name], rel=0.02), name
    assert found["frontier"]["a"] == pytest.approx(0.5139, abs=5e-5)
    assert {"small_delta", "low_coverage"} <= {one["name"] for one in found["warnings"]}


@pytest.mark.parametrize(("a", "b"), [(1.5, 2.0), (2.0, 1.5), (1.3, 1.8)])
def test_gradient_flow_fails_the_gate_and_the_q_form_gives_its_exponent(fit_of, a, b):
    runs = table(*gradient_flow(a, b))
    refused = fit_of(runs)
    assert refused.code == 1
    assert "gate_failed" in refused.warned
    law = fit_of(runs, "--law", "q-form").json["params"]
    alpha_C = law["alpha"] * law["beta"] / (law["alpha"] + law["beta"])
    assert alpha_C == pytest.approx((b - 1) / (1 + a), rel=0.03)


def test_one_variable_laws_need_one_column(fit_of):
    C = np.geomspace(1e17, 1e22, 24)
    exact = 1.5 + 900 / C**0.16
    law = fit_of(pl.DataFrame({"flops": C, "val_loss": exact}), "--law", "saturating").json
    assert law["params"] == pytest.approx({"E": 1.5, "A": 900, "gamma": 0.16}, rel=1e-5)
    assert law["law"] == "saturating_C"
    assert law["frontier"] is None
    N = C[::-1] / 1e12
    law = fit_of(pl.DataFrame({"params": N, "loss": 1.5 + 30 / N**0.2}), "--law", "Saturating_N").json
    assert law["params"]["gamma"] == pytest.approx(0.2, rel=1e-5)
    law = fit_of(pl.DataFrame({"tokens": N, "loss": 1.5 + 30 / N**0.2}), "--law", "saturatingD").json
    assert law["params"]["gamma"] == pytest.approx(0.2, rel=1e-5)


def test_two_recipes_give_their_compute_multiplier(fit_of):
    N, D = design(120)
    second = np.arange(120) % 2
    L = loss(N * 1.5**second, D * 1.2**second) * noise(120, 0.002)
    names = np.where(second, "muon", "adamw")
    found = fit_of(table(N, D, L, optimizer=names), "--law", "two-recipes", "--recipe", "optimizer")
    recipes = found.json["recipes"]
    assert (recipes["first"], recipes["second"]) == ("adamw", "muon")
    low, high = recipes["compute_multiplier_interval"]
    assert low < 1.8 < high
    assert high / low < 1.3
    assert "z = 0 is adamw, z = 1 is muon" in found.out


def test_repeated_data_give_their_law(fit_of):
    N, D = design(100)
    unique = np.where(np.arange(100) % 3 == 0, D, D / np.resize([3.0, 8.0, 20.0, 60.0], 100))
    from pipeline.fitting.laws import DataConstrained

    law = DataConstrained(**TRUTH, R_D=15.4, R_N=5.3)
    found = fit_of(table(N, D, law.loss(N, D, unique_tokens=unique), unique_tokens=unique), "--law", "data_constrained")
    assert found.json["params"]["R_D"] == pytest.approx(15.4, rel=1e-3)


def test_the_installed_command_fits_and_refuses(tmp_path):
    N, D = design(30)
    table(N, D, loss(N, D)).write_csv(tmp_path / "runs.csv")
    command = [Path(sys.executable).with_name("study"), "fit", tmp_path / "runs.csv", "--json", tmp_path / "fit.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "alpha" in done.stdout
    assert not done.stderr
    assert json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))["status"] == "converged"
    (tmp_path / "bad.csv").write_text("N,D,L\n1e8,1e9,nan\n", encoding="utf-8")
    done = subprocess.run([*command[:2], tmp_path / "bad.csv"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_output_is_no_fault(tmp_path, closed):
    N, D = design(12)
    table(N, D, loss(N, D)).write_csv(tmp_path / "runs.csv")
    words = "fit runs.csv --bootstrap 0 --holdout 0 --json fit.json"
    script = f'"{Path(sys.executable).with_name("study")}" {words} {closed}'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))["status"] == "converged"


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_name_that_is_no_text_is_shown_with_escapes(tmp_path):
    N, D = design(12)
    table(N, D, loss(N, D)).write_csv(tmp_path / "runs.csv")
    name = os.fsdecode(b"bad\xff.csv")
    (tmp_path / "runs.csv").rename(tmp_path / name)
    words = ["fit", name, "--bootstrap", "0", "--holdout", "0", "--where", os.fsdecode(b"L!=\xfe")]
    done = subprocess.run(
        [Path(sys.executable).with_name("study"), *words, "--json", "fit.json", "--page", "fit.html"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"bad\xff.csv: 12 runs" in done.stdout
    assert json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))["table"] == r"bad\xff.csv"
    assert r"bad\xff.csv" in (tmp_path / "fit.html").read_text(encoding="utf-8")


def test_a_large_table_fits_in_one_gigabyte(tmp_path):
    N, D = design(100_000)
    table(N, D, loss(N, D) * noise(100_000, 0.01)).write_csv(tmp_path / "runs.csv")
    command = [Path(sys.executable).with_name("study"), "fit", tmp_path / "runs.csv", "--json", tmp_path / "fit.json"]
    alone = (  # a process whose only child is the command, since the peak of children is that of the largest
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True, check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", alone, *command], stdout=subprocess.PIPE, check=True)
    found = json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))
    for name, value in TRUTH.items():
        assert abs(found["params"][name] - value) < 4 * found["standard_errors"][name], name
    kilobytes = int(done.stdout)
    assert kilobytes / (1024 if sys.platform == "darwin" else 1) < 1024**2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--law", "cubic"], "--law: 'cubic' is none of chinchilla, tied"),
        (["--estimator", "l3"], "--estimator: 'l3' is none of huber"),
        (["--estimator", "l1", "--delta", "0.1"], "--delta: 0.1 given, but estimator l1 has no delta"),
        (["--delta", "-1"], "error: --delta: -1 is not a finite positive number"),
        (["--delta", "0"], "error: --delta: 0 is not a finite positive number"),
        (["--bootstrap", "many"], "--bootstrap: 'many' is not a whole number"),
        (["--bootstrap", "3"], "--bootstrap: 3 is neither 0 nor at least 10"),
        (["--holdout", "1.5"], "--holdout: 1.5 is not in [0, 1)"),
        (["--starts", "0"], "--starts: 0 is below 1"),
        (["--starts", "1000000000000"], "--starts: 1000000000000 is above 10000"),
        (["--bootstrap", "100000000000000"], "--bootstrap: 100000000000000 is above 1000000"),
        (["--cluster", "host"], "--cluster: no column 'host'"),
        (["--noise", "0.01"], "--noise: 0.01 has no effect with the law chinchilla"),
        (["--recipe", "host"], "--recipe: 'host' has no effect with the law chinchilla"),
        (["--law", "isoflop", "--noise", "-1"], "--noise: -1 is not a positive number of nats/token"),
        (["--law", "isoflop", "--noise", "inf"], "--noise: inf is not a positive number of nats/token"),
        (["--where", "L"], "--where: 'L' is not COLUMN=VALUE"),
        (["--where", "L<low"], "--where: 'L<low': 'low' is not a number"),
        (["--where", "host=a"], "--where host=a: no column 'host'; the table has N, D, L"),
        (["--where", "L<0.1"], "--where L<0.1: none of 12 rows is left"),
        (["--published", "E=1.7"], "--published: source: '': published numbers need words on where they stand"),
        (["--published", "E=low,source=x"], "--published: numbers: E: 'low' is not a number"),
        (["--published", "K=1,source=x"], "--published: 'K' is none of E, A, alpha, B, beta, a, b"),
        (["--published", "alpha=1,alpha=2,source=x"], "--published: 'alpha' stands there twice"),
        (["--published", "none.json"], "none.json: no such file"),
        (["--quick"], "unrecognized arguments: --quick"),
    ],
)
def test_an_option_that_cannot_be(fit_of, words, told):
    N, D = design(12)
    found = fit_of(table(N, D, loss(N, D)), *words)
    assert found.code in (1, 2)
    assert (found.out, found.json) == ("", None)
    assert told in found.err
    assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--json", "runs.csv"], "--json: runs.csv is the file of TABLE, which would be lost"),
        (["--page", "./link.csv"], "--page: ./link.csv is the file of TABLE, which would be lost"),
        (["--json", "out", "--page", "out"], "--page: out is the file of --json, which would be lost"),
        (
            ["--published", "p.json", "--json", "p.json"],
            "--json: p.json is the file of --published, which would be lost",
        ),
        (["--json", "."], "--json: '.' is a folder"),
        (["--page", ""], "--page: '' is a folder"),
    ],
)
def test_no_file_is_written_over_another_of_the_same_command(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    N, D = design(12)
    table(N, D, loss(N, D)).write_csv("runs.csv")
    Path("link.csv").symlink_to("runs.csv")
    Path("p.json").write_text('{"source": "x", "numbers": {"E": 1}}', encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    with pytest.raises(SystemExit) as ended:
        main(["fit", "runs.csv", *words])
    assert (ended.value.code, *capsys.readouterr()) == (1, "", f"error: {told}\n")
    assert {path: path.read_bytes() for path in Path().iterdir()} == before
