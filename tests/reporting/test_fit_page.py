"""Proves that the page of a fitted table is one file that shows its numbers and runs nothing that its data say.

Reference: the JSON of the same command; hostile names of file, columns and source.
"""

import json

import numpy as np
import pytest

from pipeline.command import main
from tests.command.known_laws import design, loss, noise, table
from tests.external.test_published_tables import Page

HOSTILE = "</title><script>alert(1)</script>"
N, D = design(60)
ROWS = table(N, D, loss(N, D) * noise(60, 0.01))


def page_of(folder, rows, *words):
    """(exit code, page as text, JSON) of `study fit` on `rows` in a file of a hostile name."""
    path, page, result = folder / "a&<b>.csv", folder / "page.html", folder / "fit.json"
    rows.write_csv(path)
    with pytest.raises(SystemExit) as ended:
        main(["fit", str(path), "--page", str(page), "--json", str(result), *words])
    return ended.value.code, page, json.loads(result.read_text(encoding="utf-8"))


def test_what_the_data_say_is_escaped(tmp_path):
    rows = ROWS.rename({"L": HOSTILE})
    words = ["--L", HOSTILE, "--published", f"alpha=0.34,source={HOSTILE}", "--where", f"{HOSTILE}!=x<y"]
    code, page, result = page_of(tmp_path, rows, "--L", *words[1:4], "--bootstrap", "50", "--holdout", "0")
    assert code == 0
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "a&amp;&lt;b&gt;.csv" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    shown = Page(page)
    assert shown.open == []
    assert all(address.startswith(("#", "data:", "https://arxiv.org/abs/")) for address in shown.addresses)
    assert result["published"]["source"] == HOSTILE


def test_a_refusal_shows_its_reason_and_no_parameter(tmp_path):
    flat = table(N, D, 2.0 * noise(60, 0.01))
    code, page, result = page_of(tmp_path, flat, "--published", "E=1.7,source=a paper")
    assert (code, result["status"]) == (1, "refused:plateau")
    shown = Page(page)
    assert result["reason"] in page.read_text(encoding="utf-8")
    assert shown.cells["table-external_a__b__csv_published"][6:] == ["E", "–", "1.7", "–", "–", "–"]
    law = shown.cells["table-external_a__b__csv_law"]
    assert set(law[4::3]) == {"–"}


def test_a_table_of_compute_alone_has_its_figures(tmp_path):
    C = np.geomspace(1e17, 1e22, 24)
    rows = table(C, C, 1.5 + 900 / C**0.16).select(flops="N", val_loss="L")
    code, page, _ = page_of(tmp_path, rows, "--law", "saturating", "--bootstrap", "0", "--holdout", "0")
    assert code == 0
    assert page.read_text(encoding="utf-8").count("<svg") == 2
    cells = Page(page).cells["table-external_a__b__csv_runs"]
    assert cells[:2] == ["C, FLOPs", "L, nats/token"]
