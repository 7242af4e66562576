"""A model of the user's own: counted like our own transformer where it is one, trained like it, refused when broken."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from own.mixer import Mixer
from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.plan import describe, plan
from pipeline.models.own import build_own, count
from pipeline.models.parametrization import initialise
from pipeline.models.size import Size
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import read_params
from pipeline.planning.code import code_digest, own_modules
from pipeline.training.engine import make_engine
from pipeline.training.plain import TorchEngine

SHAPE = Shape(256, 32, 2, 16, 64, 4, 1000.0)
STUDY = read_params().language_model
CPU = torch.device("cpu")
HERE = __name__


def ours(shape):
    """The project's own transformer, as a user might bring it."""
    model = Transformer(shape)
    initialise(model, "mup", 0)
    return model


def test_a_transformer_counts_what_the_formulas_of_its_size_say():
    counted, size = count(f"{HERE}:ours", SHAPE), Size(256, 32, 2, 64, 4)
    for name in ("N_non_embedding", "N_with_head", "N_total", "flops_per_token", "width", "depth", "context"):
        assert getattr(counted, name) == getattr(size, name), name


def test_the_mixer_counts_its_matrix_products():
    """Each entry of a matrix costs 6 FLOPs a token; a position matrix (T, T) meets the K columns of a head."""
    counted, (V, C, L, T) = count("own.mixer:build", SHAPE), (256, 32, 2, 64)
    positions = L * 2 * T * T
    assert counted.N_non_embedding == L * (9 * C * C + 2 * C) + positions
    assert counted.N_total - counted.N_with_head == counted.N_with_head - counted.N_non_embedding == V * C
    assert counted.flops_per_token == 6 * (L * 9 * C * C + V * C) + 6 * L * T * C


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_it_trains_as_the_same_model_of_ours_does(kind):
    settings = STUDY.optimizer.model_copy(update={"kind": kind})
    model = STUDY.model.model_copy(update={"build": f"{HERE}:ours"})
    brought, known = make_engine(SHAPE, model, settings, 0, CPU), TorchEngine(ours(SHAPE), settings, STUDY.model, CPU)
    for number in range(4):
        windows = np.random.default_rng(number).integers(0, 256, (4, 65))
        assert float(brought.step(windows, 1.0, 128)) == float(known.step(windows, 1.0, 128))


def test_a_mixer_learns_and_resumes_to_the_same_bits():
    model = STUDY.model.model_copy(update={"build": "own.mixer:build"})
    engine = make_engine(SHAPE, model, STUDY.optimizer, 3, CPU)
    windows = np.tile(np.arange(65) % 7, (2, 1))
    losses = [float(engine.step(windows, 1.0, 10**6)) for _ in range(20)]
    assert losses[0] == pytest.approx(np.log(256))
    assert losses[-1] < 0.5
    again = make_engine(SHAPE, model, STUDY.optimizer, 4, CPU)
    again.restore({name: value.clone() for name, value in engine.state().items()}, 20)
    assert float(again.step(windows, 1.0, 10**6)) == float(engine.step(windows, 1.0, 10**6))


def test_seeds_set_the_weights_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (build_own("own.mixer:build", SHAPE, seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert torch.equal(first.embedding, again.embedding)
    assert not torch.equal(first.embedding, other.embedding)


class Peeking(Mixer):
    def forward(self, tokens):
        return super().forward(tokens) + super().forward(tokens).mean(1, keepdim=True)


class Short(Mixer):
    def forward(self, tokens):
        return super().forward(tokens)[..., :-1]


class Forgetful(Mixer):
    def groups(self):
        return super().groups() | {"head": []}


class Twice(Mixer):
    def groups(self):
        return super().groups() | {"head": ["head", "embedding"]}


class Strange(Mixer):
    def groups(self):
        return super().groups() | {"tail": []}


class Flat(Mixer):
    def groups(self):
        groups = super().groups()
        return groups | {"matrix": [*groups["matrix"], "bias"]}

    def __init__(self, shape):
        super().__init__(shape)
        self.bias = nn.Parameter(torch.zeros(3))


class Unlike:
    def __init__(self, shape):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Peeking", r"Peeking: logits before position 32 change with the token there"),
        ("Short", r"Short: logits of the shape \(2, 64, 255\) instead of \(2, 64, 256\)"),
        ("Forgetful", r"groups: head: is in 0 groups instead of one"),
        ("Twice", r"groups: embedding: is in 2 groups instead of one"),
        ("Strange", r"groups: tail: the groups are matrix, vector, embedding, head"),
        ("Flat", r"groups: matrix: bias is a vector"),
        ("Unlike", r"Unlike: not a torch module with a method groups\(\)"),
        ("missing", r"has no attribute 'missing'"),
    ],
)
def test_a_model_that_does_not_keep_the_protocol_is_refused(name, message):
    with pytest.raises(ValueError, match=re.escape(f"language_model.model.build: {HERE}:{name}: ")) as told:
        count(f"{HERE}:{name}", SHAPE)
    assert told.match(message)


class Broken(nn.Linear):
    """One that raises in forward."""

    def groups(self):
        return {"matrix": ["weight"], "vector": ["bias"]}

    def forward(self, tokens):
        raise RuntimeError("no such\n layer")


def broken(shape):
    return Broken(shape.width, shape.width)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "broken",
            rf"RuntimeError: no such layer \(tests/models/test_own\.py:{Broken.forward.__code__.co_firstlineno + 1}\)$",
        ),
        ("Unlike", r"not a torch module with a method groups\(\)$"),
    ],
)
def test_a_model_that_raises_is_named_by_the_planner(name, told):
    build = f"tests.models.test_own:{name}"
    model = STUDY.model.model_copy(update={"build": build})
    with pytest.raises(ValueError, match=rf"^params\.yaml: language_model\.model\.build: {build}: {told}"):
        plan(STUDY.model_copy(update={"model": model}), CorpusFacts("ab" * 32, 256, 10**9))


def test_runs_have_the_code_of_the_model_in_their_identity(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("")
    (tmp_path / "mine/model.py").write_text("from mine import parts\nimport torch\n\ndef build(shape):\n    pass\n")
    (tmp_path / "mine/parts.py").write_text("A = 1\n")
    names = own_modules("mine.model", tmp_path)
    assert names == ("mine", "mine.model", "mine.parts")
    before = code_digest(names, tmp_path)
    (tmp_path / "mine/parts.py").write_text("A = 1  # one\n")
    assert code_digest(names, tmp_path) == before
    (tmp_path / "mine/parts.py").write_text("A = 2\n")
    assert code_digest(names, tmp_path) != before
    with pytest.raises(
        ValueError, match=r"^params.yaml: language_model.model.build: mine\.gone: the project has no file mine/gone\.py"
    ):
        own_modules("mine.gone", tmp_path)
    (tmp_path / "mine/parts.py").write_text("A = 1\nB = (\n")
    with pytest.raises(ValueError, match=r"model\.build: mine/parts\.py:2: '\(' was never closed"):
        own_modules("mine.model", tmp_path)


def test_the_plan_counts_the_model_and_leaves_ours_as_it_was():
    corpus = CorpusFacts("ab" * 32, 256, 10**9)
    settings = STUDY.model_copy(update={"model": STUDY.model.model_copy(update={"build": "own.mixer:build"})})
    spec, plain = plan(settings, corpus)[0], plan(STUDY, corpus)[0]
    width = STUDY.grid.widths[0]
    shape = Shape(256, width, STUDY.model.depth, STUDY.model.head_size, STUDY.model.context, 4, 1000.0)
    counted, facts = count("own.mixer:build", shape), describe(spec, 0)
    assert (facts["N_total"], facts["width"]) == (counted.N_total, width)
    assert facts["C"] == facts["D"] * counted.flops_per_token
    assert spec.code_digest != plain.code_digest
    assert "build" not in plain.settings["model"]
    assert "size" not in plain.settings
    assert "own.mixer" in sys.modules
