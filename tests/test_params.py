"""params.yaml: what is accepted comes back as it was written, what is wrong is named by file, field and value."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.params import Params, SizesByTokens, read_params, read_section
from tests.small_study import LAW, SMALL


def edited(tmp_path, before, after):
    assert before in SMALL
    path = tmp_path / "params.yaml"
    path.write_text(SMALL.replace(before, after, 1))
    return path


def test_the_projects_own_file_is_valid_and_frozen():
    params = read_params()
    assert isinstance(params, Params)
    assert isinstance(params.language_model.grid, SizesByTokens)
    with pytest.raises(ValidationError, match="frozen"):
        params.train.retries = 5


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    written = read_params(edited(tmp_path, "matrix_rate: 0.01", "matrix_rate: 0.01"))
    assert read_params(edited(tmp_path, "matrix_rate: 0.01", "matrix_rate: 1e-2")) == written


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("depth: 2", "depht: 2", r"language_model\.model\.depht: unknown key \(value 2\)"),
        ("depth: 2", "depth: two", r"model\.depth: Input should be a valid integer \(value 'two'\)"),
        ("depth: 2", "depth: 2.5", r"model\.depth: .*integer.*\(value 2\.5\)"),
        ("depth: 2, ", "", r"language_model\.model\.depth: missing"),
        ("[20_000,", "[-20_000,", r"language_model\.grid\.tokens\.0: .*greater than 0 \(value -20000\)"),
        ("widths: [16, 32]", "widths: []", r"language_model\.grid\.widths: .*at least 1 item.*\[\]"),
        ("widths: [16, 32]", "width: [16, 32]", r"yaml: language_model\.grid\.width: unknown key \(value \[16, 32\]\)"),
        ("widths: [16, 32], ", "", r"yaml: language_model\.grid\.widths: missing"),
        ("80_000]", "80_000], points: [{width: 16}]", r"yaml: language_model\.grid\.points\.0\.tokens: missing"),
        ("kind: text, path", "kind: text, paht", r"yaml: prepare\.sources\.0\.paht: unknown key"),
        ("{kind: bytes}", "{kind: bpe}", r"yaml: prepare\.tokenizer\.vocab_size: missing"),
        ("{kind: bytes}", "{kind: bytes, bytes: 2}", r"yaml: prepare\.tokenizer\.bytes: unknown key \(value 2\)"),
        ("head_size: 16", "head_size: 24", r"grid\.widths: 16 is not divisible by model\.head_size 24"),
        ("head_size: 16", "head_size: 1", r"model\.head_size: 1 is odd"),
        ("{tokens: 256", "{tokens: 250", r"batch\.tokens: 250 is not a multiple of model\.context 64"),
        ("seeds: [1]", "seeds: [0]", r"replicates\.seeds: 0 is already language_model\.seed"),
        ("kind: wsd", "kind: step", r"schedule\.kind: .*'wsd' or 'cosine' \(value 'step'\)"),
        ("kind: sizes_by_tokens", "kind: spiral", r"language_model\.grid: .*spiral"),
        (
            "validation_fraction: 0.3",
            "validation_fraction: 1.5",
            r"prepare\.validation_fraction: .*less than 1 \(value 1\.5\)",
        ),
        ("bootstrap: 100", "bootstrap: yes", r"fit\.bootstrap: .*integer"),
        ("retries: 2", "retries: 2, shard: some", r"train\.shard: .*'always' or 'never' \(value 'some'\)"),
        ("retries: 2", "retries: 2, shard: always", r"train\.shard: always has no effect with devices: 1"),
        ("laws: {}", "laws: {deep_liner: {}}", r"laws\.deep_liner: no such law \(value \{\}\)"),
        ("laws: {}", "laws: {grokking: {on: false, onn: 1}}", r"laws\.grokking\.onn: unknown key \(value 1\)"),
        ("laws: {}", "laws: {grokking: {on: 0}}", r"laws\.grokking\.on: Input should be a valid boolean \(value 0\)"),
        ("laws: {}", "laws: [deep_linear]", r"laws: Input should be a valid dictionary"),
        (
            "kind: sizes_by_tokens, widths: [16, 32], tokens: [20_000, 40_000, 80_000]",
            "kind: isoflop, widths: [16, 32], flops: [.inf]",
            r"yaml: language_model\.grid\.flops\.0: .*finite number \(value inf\)",
        ),
        (
            "kind: sizes_by_tokens, widths: [16, 32], tokens: [20_000, 40_000, 80_000]",
            "kind: tokens_per_parameter, widths: [16, 32], ratios: [.inf]",
            r"yaml: language_model\.grid\.ratios\.0: .*finite number \(value inf\)",
        ),
        ("matrix_rate: 0.01", "matrix_rate: .inf", r"optimizer\.matrix_rate: .*finite number \(value inf\)"),
        ("context: 64}", "context: 64, rope_base: .inf}", r"model\.rope_base: .*finite number \(value inf\)"),
        (
            "collect: {}",
            "collect: {external: [{name: a, path: external/a.csv, noise: .inf}]}",
            r"yaml: collect\.external\.0\.noise: .*finite number \(value inf\)",
        ),
        ("depth: 2", f"depth: {10**23}", rf"yaml: language_model\.model\.depth: {10**23} does not fit into 64 bits"),
        ("context: 64}", f"context: 64, mlp_ratio: {10**30}}}", rf"\.model\.mlp_ratio: {10**30} does not fit into 64"),
        (
            "widths: [16, 32]",
            f"widths: [16, {16 * 10**30}]",
            rf"language_model\.grid\.widths\.1: {16 * 10**30} does not",
        ),
        (
            "80_000]",
            f"80_000], points: [{{width: 16, tokens: 20_000, seed: {10**25}}}]",
            rf"language_model\.grid\.points\.0\.seed: {10**25} does not fit into 64 bits",
        ),
        (
            "language_model:",
            f"language_model:\n  seed: {10**30}",
            rf"yaml: language_model\.seed: {10**30} does not fit",
        ),
        ("laws: {}", "laws: {__init__: {on: false}}", r"laws\.__init__: no such law \(value \{'on': False\}\)"),
        ("laws: {}", "laws: {grokking: {on: 'no'}}", r"laws\.grokking\.on: .*valid boolean .*\(value 'no'\)"),
        ("study:", "study: [", r"params\.yaml: line \d+: not YAML|params\.yaml: .*not YAML"),
    ],
)
def test_faults_are_named(tmp_path, before, after, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_params(edited(tmp_path, before, after))
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "entry"), [("shapes", [6, 8]), ("networks", [4]), ("outside", [])])
def test_an_entry_that_is_too_short_is_named(tmp_path, name, entry):
    text = Path("params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(rf"(    {name}: )\[\[.*\]\]", rf"\1[{entry}]", text))
    with pytest.raises(ValueError, match="neural_collapse") as caught:
        read_params(path)
    assert str(caught.value) == f"{path}: laws.neural_collapse.{name}.0: too few entries (value {entry})"


def test_a_law_that_is_off_is_not_tested(tmp_path):
    assert list(read_params(edited(tmp_path, "laws: {}\n", LAW)).laws.tested) == ["deep_linear"]
    off = LAW.replace("deep_linear:\n", "deep_linear:\n    on: false\n")
    assert read_params(edited(tmp_path, "laws: {}\n", off)).laws.tested == {}


def test_a_law_that_is_off_needs_no_dials_and_those_it_has_are_checked(tmp_path):
    bare = edited(tmp_path, "laws: {}", "laws: {grokking: {on: false}}")
    assert read_params(bare).laws.tested == {}
    assert read_params(bare) == read_params(bare)
    wrong = LAW.replace("deep_linear:\n", "deep_linear:\n    on: false\n").replace("num_inputs: 6", "num_inputs: six")
    with pytest.raises(ValueError, match=r"laws\.deep_linear\.num_inputs: Input should be a valid integer"):
        read_params(edited(tmp_path, "laws: {}\n", wrong))


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    path = edited(tmp_path, "depth: 2", "depth: two")
    path.write_text(path.read_text().replace("retries: 2", "retries: -2"))
    with pytest.raises(ValueError, match="depth") as caught:
        read_params(path)
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.yaml: no such file"):
        read_params(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", [name for name in Params.model_fields if name != "laws"])
def test_a_section_alone_is_that_of_the_whole(tmp_path, name):
    path = edited(tmp_path, "retries: 2", "retries: 1")
    whole = read_params(path)
    assert read_section(name, path) == getattr(whole, name)


def test_faults_of_a_section_alone_are_named(tmp_path):
    path = edited(tmp_path, "retries: 2", "retires: 2")
    with pytest.raises(ValueError, match=r"params\.yaml: train\.retires: unknown key \(value 2\)"):
        read_section("train", path)
    path.write_text("study: {name: alone}")
    with pytest.raises(ValueError, match=r"params\.yaml: train: missing"):
        read_section("train", path)
    assert read_section("study", path).name
