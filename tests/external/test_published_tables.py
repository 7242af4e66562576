"""Proves that published tables of runs give their published numbers in one command each, and a page that holds them.

References: Besiroglu et al. 2024 (arXiv 2404.10102), Gadre et al. 2024 (2403.08540), Porian et al. 2024 (2406.19146).
The data are the authors'; the folder with their csv files is named by STUDY_PUBLISHED_DATA.
"""

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.fitting.test_porian import FILE, NOISE, PUBLISHED, SETTING

BESIROGLU = {"A": 477.825868, "B": 2143.417363, "E": 1.8172181, "alpha": 0.3473104989, "beta": 0.3671724326}
BESIROGLU["a"] = 0.5139
GADRE = {
    "c4_original": {"a": 113.69, "b": 189.52, "c": -0.24247, "E": 1.50826},
    "rpj": {"a": 166.21, "b": 366.69, "c": -0.27285, "E": 1.83665},
    "rw_original": {"a": 125.10, "b": 246.21, "c": -0.25439, "E": 1.73446},
}
FIVE_RUNS = ("d=96_l=8_h=4-1.0", "d=512_l=8_h=4-1.0", "d=576_l=24_h=8-1.0", "d=1024_l=24_h=8-1.0", "d=96_l=8_h=4-16.0")


class Page(HTMLParser):
    """The cells of every table of a page by the id of its section, the addresses it names, and its open elements."""

    def __init__(self, path):
        super().__init__()
        self.cells, self.addresses, self.open, self.section = {}, [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)
        if tag == "section":
            self.section = facts.get("id", "")
        if tag in ("td", "th"):
            self.cells.setdefault(self.section, []).append("")
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th", "data"):
            self.cells[self.section][-1] += text


def published(name):
    folder = os.environ.get("STUDY_PUBLISHED_DATA")
    if not folder or not (path := Path(folder) / name).exists():
        pytest.skip(f"STUDY_PUBLISHED_DATA names no folder with {name}")
    return path


def beside(found):
    """Name -> row of published numbers beside ours."""
    return {row["name"]: row for row in found.json["published"]["rows"]}


def test_chinchilla(study, tmp_path):
    table, page = published("chinchilla_epoch_2024.csv"), tmp_path / "chinchilla.html"
    numbers = ",".join(f"{name}={value}" for name, value in BESIROGLU.items())
    words = ["--where", "loss<3.44", "--delta", "1e-3", "--page", page]
    found = study("fit", table, *words, "--published", f"{numbers},source=Besiroglu et al. 2024, arXiv 2404.10102")
    assert found.code == 0
    assert (found.json["num_runs"], found.json["notes"]) == (240, ["240 of 245 rows chosen by loss<3.44"])
    assert found.json["objective"] == pytest.approx(0.0010182740178006, rel=1e-10)
    for name, row in beside(found).items():
        assert row["value"] == pytest.approx(BESIROGLU[name], rel=1e-6 if name != "a" else 1e-4), name
        assert abs(row["standard_errors"]) < 0.01
        assert row["interval"][0] < row["published"] < row["interval"][1]
    assert "published: Besiroglu et al. 2024, arXiv 2404.10102" in found.out
    shown = Page(page)
    assert shown.open == []
    assert all(address.startswith(("#", "data:", "https://arxiv.org/abs/")) for address in shown.addresses)
    cells = shown.cells["table-external_chinchilla_epoch_2024_csv_published"]
    assert cells[6] == "A"
    assert cells[7].startswith("477.83 [")
    assert cells[8:10] == ["477.825868", "–"]
    assert page.read_text(encoding="utf-8").count("<svg") == 2
    assert len(shown.cells["table-external_chinchilla_epoch_2024_csv_runs"]) == 6 + 6 * 200


@pytest.mark.parametrize("train_set", GADRE)
def test_gadre(study, tmp_path, train_set):
    """Five runs for four parameters: the engine by itself calls two of the three tables a plateau."""
    numbers = tmp_path / "gadre.json"
    numbers.write_text(json.dumps({"source": "arXiv 2403.08540", "numbers": GADRE[train_set]}), encoding="utf-8")
    runs = "|".join(f"{train_set}-{name}" for name in FIVE_RUNS)
    words = ["--law", "over-training", "--estimator", "l2_linear", "--N", "params", "--despite", "plateau"]
    chosen = ["--where", "val_set=c4_val", "--where", f"name={runs}"]
    table, page = published("gadre_2024_overtraining_runs.csv"), tmp_path / "gadre.html"
    found = study("fit", table, *words, *chosen, "--published", numbers, "--page", page)
    assert (found.code, found.json["num_runs"]) == (0, 5)
    for name, row in beside(found).items():
        assert row["value"] == pytest.approx(GADRE[train_set][name], rel=1e-4), name
        assert (row["interval"], row["standard_errors"]) == (None, None)
    assert found.warned <= {"plateau", "few_runs"}
    cells = Page(page).cells["table-external_gadre_2024_overtraining_runs_csv_published"]
    assert [f"{value:g}".replace("-", "−") in cells for value in GADRE[train_set].values()] == [True] * 4


@pytest.mark.parametrize("setting", PUBLISHED, ids="-".join)
def test_porian(study, tmp_path, setting):
    table, page, (value, low, high) = published(FILE), tmp_path / "porian.html", PUBLISHED[setting]
    numbers = tmp_path / "porian.json"
    whole = {"source": "arXiv 2406.19146", "numbers": {"a": {"value": value, "interval": [low, high]}}}
    numbers.write_text(json.dumps(whole), encoding="utf-8")
    chosen = [word for pair in zip(SETTING, setting, strict=True) for word in ("--where", "=".join(pair))]
    words = ["--law", "isoflop", "--N", "params", "--noise", NOISE[setting[0]], "--seed", 0]
    found = study("fit", table, *words, *chosen, "--published", numbers, "--page", page)
    assert found.code == 0
    row = beside(found)["a"]
    assert low <= row["value"] <= high
    assert row["interval"] == pytest.approx((low, high), abs=0.015)
    refused = [(one["C"], one["reason"]) for one in found.json["minima"] if one["params"] is None]
    edge = "the smallest loss is at the smallest size that reaches it"
    assert refused == ([(1.25e16, edge)] if setting[1:] == ("base", "long", "kaplan", "standard") else [])
    assert (f"refused: C = 1.25e+16: {edge}" in found.out) == bool(refused)
    cells = Page(page).cells["table-external_porian_2024_isoflop_runs_csv_published"]
    assert cells[-4:-2] == [f"{value:g}", f"{low:g} to {high:g}"]
