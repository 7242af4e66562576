"""The budget calculator of the page in Chromium, and two recipes compared by their fits.

Reference: `study predict` on the same study, the Python predictor for laws drawn at random, a root finder.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from scipy.optimize import brentq

from pipeline.command import main
from pipeline.fitting.frontier import flat_range
from pipeline.fitting.laws import LAWS, Law
from pipeline.fitting.prediction import Predictor
from pipeline.reporting.calculator import calculator
from pipeline.reporting.numbers import count, significant
from tests.reporting.chromium import SCRIPTS, needs_chromium, opened

pytestmark = needs_chromium
LOG_TRUTH = {"chinchilla": [0.5, 6.0, -1.08, 6.0, -1.27], "q_form": [-0.2, 3.3, -1.0, 4.3, -1.0, 0.4]}


def answers(page: Page) -> dict[str, str]:
    """What the calculator shows, by name: (the number behind it, its text)."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('[data-answer]')].map(place =>
            [place.dataset.answer, place.querySelector('data').value]))"""
    )


def shown(page: Page, name: str) -> tuple[str, str]:
    """The text of an answer, and the remark under it."""
    place = page.locator(f"[data-answer={name}]")
    return place.locator("data").inner_text(), place.locator("span").inner_text()


def test_ten_budgets_are_answered_as_study_predict_answers_them(
    browser: Browser, report: Path, monkeypatch, capsys
) -> None:
    found = opened(browser, report)
    page = found.page
    monkeypatch.chdir(report)
    largest = json.loads(Path("results/findings.json").read_text())["experiments"]["language_model"]["summary"]
    budgets = largest["forecast"]["C_range"][1] * np.geomspace(1e-2, 3e3, 10)
    for C in map(float, budgets):
        page.fill("#amount", str(C))
        with pytest.raises(SystemExit) as ended:
            main(["predict", "--flops", str(C), "--json", "predicted.json"])
        assert ended.value.code == 0
        expected = json.loads(Path("predicted.json").read_text())
        got = answers(page)
        for name, key in {"C": "flops", "N": "params", "D": "tokens", "ratio": "tokens_per_parameter"}.items():
            assert float(got[name]) == pytest.approx(expected[key], rel=1e-9)
        for name in ("loss", "extrapolation"):
            assert float(got[name]) == pytest.approx(expected[name], rel=1e-9)
        assert [float(end) for end in got["flat"].split()] == pytest.approx(expected["flat_params"], rel=1e-9)
        low, high = map(count, expected["params_interval"])
        assert shown(page, "N") == (count(expected["params"], 4), f"[{low}, {high}]")
        low, high = map(count, expected["tokens_interval"])
        assert shown(page, "D")[1] == f"[{low}, {high}]"
        low, high = map(significant, expected["tokens_per_parameter_interval"])
        assert shown(page, "ratio")[1] == f"[{low}, {high}]"
        text, remark = shown(page, "loss")
        places = len(text.partition(".")[2])
        of_run, of_law = ([f"{end:.{places}f}" for end in expected[key]] for key in ("prediction_interval", "interval"))
        assert places >= 2
        assert text == f"{expected['loss']:.{places}f}"
        assert remark == f"[{', '.join(of_run)}] a run, [{', '.join(of_law)}] the law"
        warned = any(one["name"] == "far_extrapolation" for one in expected["warnings"])
        assert warned == (expected["extrapolation"] > 10)
        assert ("Far extrapolation" in page.locator(".message").inner_text()) == warned
        assert float(page.locator(".command").inner_text().split()[-1]) == C
    capsys.readouterr()
    assert found.is_quiet()
    page.close()


def test_hours_and_dollars_are_the_flops_that_they_buy(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    for name, value in {"speed": "100", "use": "25", "price": "4", "amount": "1e-6"}.items():
        page.fill(f"#{name}", value)
    page.select_option("#unit", "hours")
    assert float(answers(page)["C"]) == pytest.approx(1e-6 * 3600 * 100e12 * 0.25, rel=1e-12)
    page.select_option("#unit", "dollars")
    assert float(answers(page)["C"]) == pytest.approx(1e-6 / 4 * 3600 * 100e12 * 0.25, rel=1e-12)
    narrow = [float(end) for end in answers(page)["flat"].split()]
    page.select_option("#tolerance", "0.01")
    wide = [float(end) for end in answers(page)["flat"].split()]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    page.close()


@pytest.mark.parametrize("amount", ["", "ten", "-1", "0", "1e999", "NaN", "1e14 flops"])
def test_what_is_no_positive_number_is_named_and_nothing_is_answered(
    browser: Browser, report: Path, amount: str
) -> None:
    found = opened(browser, report)
    found.page.fill("#amount", amount)
    expect(found.page.locator(".message")).to_have_text(f"Budget: “{amount}” is not a positive number.")
    expect(found.page.locator("#amount")).to_have_attribute("aria-invalid", "true")
    expect(found.page.locator(".answer")).to_be_hidden()
    found.page.fill("#amount", "1e13")
    expect(found.page.locator(".answer")).to_be_visible()
    expect(found.page.locator("#amount")).to_have_attribute("aria-invalid", "false")
    assert found.is_quiet()
    found.page.close()


@pytest.mark.parametrize("amount", ["8,56e13", "8,56", "1,0000", "1,000e10", ",5", "1.5,000"])
def test_a_comma_that_does_not_separate_thousands_is_refused(browser: Browser, report: Path, amount: str) -> None:
    page = opened(browser, report).page
    page.fill("#amount", amount)
    said = f"Budget: “{amount}” has a comma that does not separate thousands; decimals follow a point."
    expect(page.locator(".message")).to_have_text(said)
    expect(page.locator(".answer")).to_be_hidden()
    page.fill("#amount", "85,600,000,000,000.5")
    assert float(answers(page)["C"]) == 85_600_000_000_000.5
    page.close()


def test_more_than_all_of_a_gpu_is_refused(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    page.fill("#use", "400")
    expect(page.locator(".message")).to_have_text("of it used, %: “400” is more than 100.")
    page.fill("#use", "100")
    expect(page.locator(".answer")).to_be_visible()
    page.close()


def test_what_has_no_answer_names_no_command_and_no_budget_before(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    command = page.locator(".again")
    expect(command).to_contain_text("study predict --flops")
    page.fill("#amount", "ten")
    expect(command).to_be_hidden()
    assert page.locator(".command").text_content() == ""
    page.fill("#amount", "1e13")
    expect(command).to_contain_text("study predict --flops 1e+13")
    page.close()


def test_below_the_smallest_budget_it_warns_as_above_the_largest(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    low, high = json.loads(page.locator(".stored").text_content())["C_range"]
    said = page.locator(".message")
    for C, words in (
        (low / 20, "Far extrapolation: 20.0 times below the smallest compute measured, past 10."),
        (low / 2, "Below the smallest compute measured: an extrapolation."),
        (high * 2, "Beyond the largest compute measured: an extrapolation."),
        (high * 20, "Far extrapolation: 20.0 times the largest compute measured, past 10."),
    ):
        page.fill("#amount", str(C))
        expect(said).to_contain_text(words)
        assert ("warning" in said.get_attribute("class")) == words.startswith("Far")
    page.fill("#amount", str((low * high) ** 0.5))
    expect(said).not_to_contain_text("extrapolation")
    page.close()


def test_an_answer_whose_interval_has_no_end_is_refused(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    stored = json.loads(page.locator(".stored").text_content())
    draws = np.frombuffer(base64.b64decode(stored["draws"]), "<f8").reshape(-1, len(stored["theta"])).copy()
    draws[:, 1] = 1e5  # ln A of every resample, so that N* leaves the range of numbers, but not that of the estimate
    stored["draws"] = base64.b64encode(draws.tobytes()).decode()
    other = _scripts(browser, "law", "numbers", "compare", "calculator")
    other.evaluate(
        "html => { document.body.innerHTML = html; }", page.locator("form.calculator").evaluate("one => one.outerHTML")
    )
    other.evaluate("stored => startCalculator(document.querySelector('form'), stored)", stored)
    expect(other.locator(".message")).to_contain_text("is out of the range of numbers")
    expect(other.locator(".answer")).to_be_hidden()
    other.close()
    page.close()


@pytest.mark.parametrize("name", ["chinchilla", "q_form"])
@pytest.mark.parametrize(("freedom", "widening"), [(1, 1.0), (6, 1.7), (200, 1.0)])
def test_the_script_knows_both_laws(browser: Browser, name: str, freedom: int, widening: float) -> None:
    random = np.random.default_rng(freedom)
    truth = np.array(LOG_TRUTH[name])
    draws = truth + 0.05 * random.standard_normal((301, len(truth))) + 0.02
    predictor = Predictor(LAWS[name], truth, draws, freedom, 0.004, widening, (1e10, 1e13), (1e4, 1e6), (1e5, 1e7))
    page = _scripts(browser, "law")
    budgets = [1e9, 1e13, 1e18, 1e24]
    stored = calculator(predictor).stored
    found = page.evaluate(
        "([stored, budgets]) => budgets.map(C => forecaster(stored).budget(C, 0.01))", [stored, budgets]
    )
    for C, one in zip(budgets, found, strict=True):
        expected = predictor.budget(C)
        assert (one["N"], one["D"]) == pytest.approx((expected.best.N, expected.best.D), rel=1e-9)
        assert one["loss"] == pytest.approx(expected.best.loss, rel=1e-10)
        assert one["interval"] == pytest.approx(expected.best.interval, rel=1e-9)
        assert one["prediction"] == pytest.approx(expected.best.prediction_interval, rel=1e-9)
        assert one["sizes"] == pytest.approx(expected.N_interval, rel=1e-9)
        assert one["tokens"] == pytest.approx(expected.D_interval, rel=1e-9)
        assert one["ratios"] == pytest.approx(expected.tokens_per_parameter_interval, rel=1e-9)
        assert one["flat"] == pytest.approx(flat_range(predictor.law, C, 0.01), rel=1e-6)
    page.close()


def test_a_multiplier_is_the_compute_at_which_the_losses_are_equal(browser: Browser) -> None:
    page = _scripts(browser, "law", "compare")
    ours, theirs = (LAWS[name](**_values(name)) for name in ("q_form", "chinchilla"))

    def least(law: Law, C: float) -> float:
        N = float(law.optimal_size([C])[0])
        return float(law.loss(N, C / 6 / N))

    thetas = [LOG_TRUTH["q_form"], LOG_TRUTH["chinchilla"]]
    texts = [
        json.dumps({"predictor": {"law": name, "theta": theta}, "draws": [theta] * 3})
        for name, theta in zip(("q_form", "chinchilla"), thetas, strict=True)
    ]
    found = page.evaluate("([a, b]) => compared(readFit('a', a), readFit('b', b), 1e16)", texts)
    equal = brentq(lambda x: least(ours, np.exp(x)) - least(theirs, 1e16), np.log(1e6), np.log(1e40))
    assert found["loss"] == pytest.approx(least(theirs, 1e16), rel=1e-10)
    assert found["multiplier"] == pytest.approx(np.exp(equal) / 1e16, rel=1e-6)
    assert found["interval"] == pytest.approx([found["multiplier"]] * 2, rel=1e-9)
    page.close()


def test_a_fit_in_a_file_is_compared_and_another_file_is_refused(
    browser: Browser, report: Path, tmp_path: Path, capsys
) -> None:
    fit, table = tmp_path / "other.json", str(report / "reports/tables/points.csv")
    with pytest.raises(SystemExit) as ended:
        main(["fit", table, "--law", "q_form", "--bootstrap", "100", "--json", str(fit)])
    assert ended.value.code == 0, capsys.readouterr().err
    found = opened(browser, report)
    page = found.page
    page.locator(".compare summary").click()
    page.set_input_files("#other", fit)
    said = page.locator(".comparison")
    expect(said).to_contain_text("other.json reaches")
    # The same runs under nearly the same estimator: the same recipe, so about the same compute.
    assert float(said.get_attribute("data-multiplier")) == pytest.approx(1.0, abs=0.15)
    expect(said).to_contain_text("the two cannot be told apart")
    for content, message in (
        ("{", "bad.json: not JSON."),
        ("{}", "bad.json: predictor.law: missing"),
        (json.dumps({"predictor": {"law": "kaplan"}}), "bad.json: predictor.law: kaplan"),
        (json.dumps({"predictor": {"law": "q_form", "theta": [1]}, "draws": []}), "predictor.theta: not 6 numbers"),
        (json.dumps({"predictor": {"law": "q_form", "theta": [1] * 6}, "draws": [["x"] * 6]}), "draws: not 6 numbers"),
    ):
        page.set_input_files("#other", {"name": "bad.json", "mimeType": "", "buffer": content.encode()})
        expect(said).to_contain_text(message)
    assert found.is_quiet()
    page.close()


def test_a_study_without_a_law_that_predicts_has_no_calculator(browser: Browser, refused: Path) -> None:
    found = opened(browser, refused)
    assert found.page.locator("form.calculator").count() == 0
    expect(found.page.get_by_text("none: this study has no law that predicts")).to_be_visible()
    assert found.is_quiet()
    found.page.close()


def _values(name: str) -> dict[str, float]:
    return {key: float(np.exp(value)) for key, value in zip(LAWS[name].parameters(), LOG_TRUTH[name], strict=True)}


def _scripts(browser: Browser, *names: str) -> Page:
    """An empty page that knows the functions of these scripts."""
    page = browser.new_page()
    page.add_script_tag(content="\n".join((SCRIPTS / f"{name}.js").read_text() for name in names))
    return page
