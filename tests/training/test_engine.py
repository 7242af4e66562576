"""The compiled engine of CPUs against torch's autograd: losses, gradients, updates; either reads the other's state."""

import numpy as np
import pytest
import torch

from pipeline.models.loss import next_token_loss
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import read_params
from pipeline.training.compiled import network
from pipeline.training.compiled.engine import NAMES, CompiledEngine
from pipeline.training.device import prepare_device
from pipeline.training.engine import make_engine
from pipeline.training.plain import TorchEngine

PARAMS = read_params().language_model
ADAM = PARAMS.optimizer.model_copy(update={"kind": "adamw", "matrix_rate": 2e-3, "weight_decay": 0.1})
CLIPPED = PARAMS.optimizer.model_copy(update={"clip_norm": 0.3, "weight_decay": 0.05})
SHAPES = [Shape(256, 32, 2, 16, 64, 4, 1000.0), Shape(50, 24, 1, 8, 10, 2, 100.0), Shape(300, 48, 3, 24, 32, 3, 1e4)]
CPU = torch.device("cpu")


def transformer(shape, seed=0):
    """Random weights everywhere, so that no part of a gradient vanishes."""
    made = Transformer(shape)
    initialise(made, "standard", seed)
    return made


def windows(shape, count, seed):
    return np.random.default_rng(seed).integers(0, shape.vocab_size, (count, shape.context + 1))


def engines(shape, settings):
    prepare_device()
    both = [transformer(shape), transformer(shape)]
    return CompiledEngine(both[0], settings, PARAMS.model), TorchEngine(both[1], settings, PARAMS.model, CPU)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"width {shape.width}")
def test_gradients_are_those_of_autograd(shape):
    made, chunk = transformer(shape), windows(shape, 5, 1)
    compiled, _ = engines(shape, PARAMS.optimizer)
    loss = next_token_loss(made, torch.from_numpy(chunk))
    loss.backward()
    value = network.loss_and_gradient(
        compiled.weights, compiled.turn, compiled.lanes, chunk, np.float32(1), compiled.gradient
    )
    assert value == pytest.approx(loss.item(), rel=1e-6)
    for name, mine in zip(NAMES, compiled.gradient, strict=True):
        theirs = getattr(made, name).grad.numpy()
        assert np.abs(mine - theirs).max() < 3e-6 * np.abs(theirs).max()


@pytest.mark.parametrize("settings", [PARAMS.optimizer, ADAM, CLIPPED], ids=["muon", "adamw", "clipped"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"width {shape.width}")
def test_both_engines_train_alike(shape, settings):
    compiled, plain = engines(shape, settings)
    for number in range(6):
        chunk = windows(shape, 4, number)
        first, second = compiled.step(chunk, 0.5, 10**6), plain.step(chunk, 0.5, 10**6)
        assert first == pytest.approx(float(second), rel=1e-5)
    chunk, reference = windows(shape, 3, 99), plain.state()
    np.testing.assert_allclose(compiled.losses(chunk), plain.losses(chunk), rtol=1e-4, atol=1e-4)
    assert compiled.state().keys() == reference.keys()
    for name, mine in compiled.state().items():
        assert (mine - reference[name]).norm() < 1e-3 * reference[name].norm()


@pytest.mark.parametrize("settings", [PARAMS.optimizer, ADAM], ids=["muon", "adamw"])
def test_each_engine_goes_on_from_the_others_state(settings):
    shape = SHAPES[0]
    compiled, plain = engines(shape, settings)
    for number in range(3):
        compiled.step(windows(shape, 4, number), 1.0, 10**6)
    plain.restore({name: value.clone() for name, value in compiled.state().items()}, 3)
    back = make_engine(shape, PARAMS.model, settings, 7, CPU)
    back.restore(plain.state(), 3)
    chunk = windows(shape, 4, 3)
    expected = compiled.step(chunk, 1.0, 10**6)
    assert back.step(chunk, 1.0, 10**6) == expected
    assert float(plain.step(chunk, 1.0, 10**6)) == pytest.approx(expected, rel=1e-6)
    assert all(torch.equal(value, compiled.state()[name]) for name, value in back.state().items())
    for name, value in plain.state().items():
        assert (value - compiled.state()[name]).norm() < 1e-4 * compiled.state()[name].norm()


def test_micro_batches_add_up_to_the_whole_batch():
    shape, chunk = SHAPES[0], windows(SHAPES[0], 7, 0)
    (whole, _), (parts, _) = engines(shape, ADAM), engines(shape, ADAM)
    assert parts.step(chunk, 1.0, 128) == pytest.approx(whole.step(chunk, 1.0, 10**6), rel=1e-6)
    for name, value in whole.state().items():
        assert (value - parts.state()[name]).norm() < 1e-5 * value.norm()


def test_a_loss_that_is_not_finite_is_seen():
    shape = SHAPES[0]
    compiled, _ = engines(shape, PARAMS.optimizer)
    compiled.weights[1][0, 0, 0] = np.nan
    assert np.isnan(compiled.step(windows(shape, 2, 0), 1.0, 10**6))
