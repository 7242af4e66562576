"""muP on a network of two hidden layers: what a step changes, and where the best rate lies, at several widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import Seeds, law_run, one_thread, result, torch
from pipeline.experiments.laws.mup_transfer.valley import ascend
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

LAYERS = ("first_layer", "second_layer", "output")


class Network(Section):
    """Dials: the first of `widths` is the base width; `num_steps` of `batch` examples at each of `log2_rates`; what
    `check_steps` at `check_rate` change is measured at `check_widths`; `missed` is the regret that ends a transfer."""

    seeds: Seeds
    num_inputs: PositiveInt
    num_classes: Annotated[int, Field(ge=2)]
    activation: Literal["tanh", "relu"]
    widths: Annotated[list[PositiveInt], Field(min_length=3)]
    log2_rates: Annotated[list[float], Field(min_length=5)]
    num_steps: PositiveInt
    batch: PositiveInt
    check_widths: Annotated[list[PositiveInt], Field(min_length=3)]
    check_rate: PositiveFloat
    check_steps: Annotated[int, Field(ge=2)]
    missed: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> Network:
        ascend(self, "widths", "log2_rates", "check_widths")
        return self


def plan_network(dials: Network) -> list[RunSpec]:
    """A run a seed for each width and parametrization; at the base width both are the same."""
    shared = dials.model_dump(include={"num_inputs", "num_classes", "activation", "batch"})
    check = {"rate": dials.check_rate, "num_steps": dials.check_steps}
    sweep = {"log2_rates": dials.log2_rates, "num_steps": dials.num_steps}
    specs, many = [], dials.num_steps * len(dials.log2_rates)
    for kind, widths, own, steps in (
        ("coordinates", dials.check_widths, check, dials.check_steps),
        ("transfer", dials.widths, sweep, many),
    ):
        for width, rule in ((width, rule) for width in widths for rule in ("mup", "standard")):
            if rule == "standard" and width == widths[0]:
                continue
            settings = shared | own | {"width": width, "base_width": widths[0], "parametrization": rule}
            seconds = 0.1 + steps * (4e-4 + 1.4e-3 * (width / 512) ** 2)
            for seed in dials.seeds:
                label = f"{kind} {rule} width {width} seed {seed}"
                specs.append(law_run("mup_transfer", kind, settings, seed, label=label, seconds=seconds))
    return specs


def run_network(spec: RunSpec) -> RunResult:
    """Of coordinates: the root mean square change of what enters each layer's units, as scalars. Of a transfer: a
    curve with the `loss` (nats, held out) after training at each `log2_rate`."""
    one_thread()
    if spec.kind == "coordinates":
        return result(changes(spec.settings, spec.seed))
    exponents = np.array(spec.settings["log2_rates"])
    losses = np.array([trained_loss(spec.settings, spec.seed, 2.0**exponent) for exponent in exponents])
    curve = {"step": np.arange(len(losses)), "log2_rate": exponents, "loss": losses}
    return result({"lowest_loss": losses.min()}, curve)


def changes(setup: dict, seed: int) -> dict[str, float]:
    """Root mean square changes on the one batch that is trained on, as usual in a coordinate check."""
    examples, weights = teacher(setup, seed)(setup["batch"]), initial_weights(setup, seed)
    with torch.no_grad():
        before = forward(setup, weights, examples[0])
    train(setup, weights, lambda _: examples, setup["rate"])
    with torch.no_grad():
        moved = [new - old for new, old in zip(forward(setup, weights, examples[0]), before, strict=True)]
    return {name: float(change.square().mean().sqrt()) for name, change in zip(LAYERS, moved, strict=True)}


def trained_loss(setup: dict, seed: int, rate: float) -> float:
    """Cross-entropy on 2048 held-out examples after training at `rate`, nats."""
    draw, weights = teacher(setup, seed), initial_weights(setup, seed)
    inputs, labels = draw(2048)
    train(setup, weights, draw, rate)
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(forward(setup, weights, inputs)[-1], labels))


def teacher(setup: dict, seed: int) -> Callable[[int], tuple]:
    """draw(n): n normal inputs, and the class that a fixed random network of 64 tanh units gives each of them."""
    random, num = torch.Generator().manual_seed(2 * seed), setup["num_inputs"]
    first = 2 * torch.randn(num, 64, generator=random) / num**0.5
    second = torch.randn(64, setup["num_classes"], generator=random)

    def draw(count: int) -> tuple:
        inputs = torch.randn(count, num, generator=random)
        return inputs, (torch.tanh(inputs @ first) @ second).argmax(dim=1)

    return draw


def initial_weights(setup: dict, seed: int) -> list:
    """The three matrices: normal, of variance 1 or 2 over the fan-in, but the output's, which starts at zero."""
    random, num, width = torch.Generator().manual_seed(2 * seed + 1), setup["num_inputs"], setup["width"]
    power = {"tanh": 1.0, "relu": 2.0}[setup["activation"]]
    first = torch.randn(num, width, generator=random) * (power / num) ** 0.5
    second = torch.randn(width, width, generator=random) * (power / width) ** 0.5
    return [weight.requires_grad_() for weight in (first, second, torch.zeros(width, setup["num_classes"]))]


def forward(setup: dict, weights: list, inputs) -> tuple:
    """What enters the units of the first, the second and the output layer."""
    activation = getattr(torch, setup["activation"])
    first = inputs @ weights[0]
    second = activation(first) @ weights[1]
    return first, second, activation(second) @ weights[2]


def rates(setup: dict, rate: float) -> tuple[float, float, float]:
    """Adam's rates of the three weight matrices: under muP those that are fed by w units fall as w0 / w."""
    shrink = setup["base_width"] / setup["width"] if setup["parametrization"] == "mup" else 1.0
    return rate, rate * shrink, rate * shrink


def train(setup: dict, weights: list, draw: Callable[[int], tuple], rate: float) -> None:
    """Adam on the batches that `draw` gives, for `num_steps`; changes `weights` in place."""
    groups = [{"params": [one], "lr": own} for one, own in zip(weights, rates(setup, rate), strict=True)]
    adam = torch.optim.Adam(groups, fused=True)
    for _ in range(setup["num_steps"]):
        inputs, labels = draw(setup["batch"])
        torch.nn.functional.cross_entropy(forward(setup, weights, inputs)[-1], labels).backward()
        adam.step()
        adam.zero_grad()
