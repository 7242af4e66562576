"""Runs tried again or waived in a clone of a published study, where nothing was planned: it says what is missing."""

import json
from pathlib import Path

import pytest

from pipeline.command import main

REASON = ["--reason", "why"]


@pytest.mark.parametrize("words", [["retry", "abd7427d"], ["waive", "abd7427d", *REASON]])
def test_without_a_plan_it_is_the_plan_that_is_missing(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: plan/runs.parquet: no such file, and no run 'abd7427d' was tried here; plan the")
    assert said.count("\n") == 1


def test_a_waiver_is_taken_back_without_a_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_id = "abd7427d31dc9be9"
    Path("waivers.json").write_text(json.dumps({run_id: "why"}))
    with pytest.raises(SystemExit) as ended:
        main(["retry", run_id[:5]])
    assert ended.value.code == 0, capsys.readouterr().err
    assert json.loads(Path("waivers.json").read_text()) == {}
