"""Section `language_model`: what the scaling study trains, how, and on which grid."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.params.section import Section


class Point(Section):
    """One run beside the grid: a width, the tokens it is trained on, and its seed (None: that of the study)."""

    width: PositiveInt
    tokens: PositiveInt
    seed: int | None = None


class _Grid(Section):
    """`widths` of every kind of grid, and single `points` beside it."""

    widths: Annotated[list[PositiveInt], Field(min_length=1)]
    points: list[Point] = []


class SizesByTokens(_Grid):
    """Every width at every token count: the tree of trunks and cooldowns."""

    kind: Literal["sizes_by_tokens"]
    tokens: Annotated[list[PositiveInt], Field(min_length=1)]


class IsoFlop(_Grid):
    """Every width at every compute budget (training FLOPs): D = C / (FLOPs a token)."""

    kind: Literal["isoflop"]
    flops: Annotated[list[PositiveFloat], Field(min_length=1)]


class TokensPerParameter(_Grid):
    """Every width at every ratio D / N, N non-embedding."""

    kind: Literal["tokens_per_parameter"]
    ratios: Annotated[list[PositiveFloat], Field(min_length=1)]


Grid = Annotated[SizesByTokens | IsoFlop | TokensPerParameter, Field(discriminator="kind")]


class Replicates(Section):
    """Extra seeds, which measure the noise between seeds; `tokens` bounds their D (None: the whole grid)."""

    seeds: list[int] = []
    widths: list[PositiveInt] = []
    max_tokens: PositiveInt | None = None


class Model(Section):
    """Shape of the transformer; width comes from the grid. `context` in tokens.

    `build` names a model of the user's own in its place, "package.module:function", which is given that shape (see
    models/own.py).
    """

    depth: PositiveInt
    head_size: PositiveInt
    context: PositiveInt
    mlp_ratio: PositiveInt = 4
    rope_base: PositiveFloat = 1000.0
    parametrization: Literal["mup", "standard"] = "mup"
    base_width: PositiveInt = 64
    build: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")] | None = None


class Optimizer(Section):
    """Rates at `model.base_width`. `matrix_rate` is for hidden matrices, the others for embedding and head."""

    kind: Literal["muon", "adamw"]
    matrix_rate: PositiveFloat
    embedding_rate: PositiveFloat
    head_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: PositiveFloat | None = None


class Batch(Section):
    """Global batch in tokens: B(t) = tokens * max(1, (t / growth_from)^growth_power) after t tokens."""

    tokens: PositiveInt
    growth_from: PositiveInt = 60_000
    growth_power: Annotated[float, Field(ge=0, le=1)] = 0.5


class Schedule(Section):
    """`wsd`: warm-up, constant, linear cooldown over the last `cooldown_fraction` of D. `cosine`: from scratch to 0."""

    kind: Literal["wsd", "cosine"]
    warmup_tokens: Annotated[int, Field(ge=0)]
    cooldown_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2


class Evaluation(Section):
    """Fixed validation windows, the same for all runs, each `model.context` tokens long, a few from each document."""

    windows: PositiveInt
    windows_per_document: PositiveInt


class LanguageModel(Section):
    """The language-model scaling study: what is trained, how, and on which grid."""

    grid: Grid
    seed: int = 0
    replicates: Replicates = Replicates()
    model: Model
    optimizer: Optimizer
    batch: Batch
    schedule: Schedule
    evaluation: Evaluation
    allow_repeats: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> LanguageModel:
        places = [("grid.widths", width) for width in self.grid.widths]
        places += [(f"grid.points.{number}.width", point.width) for number, point in enumerate(self.grid.points)]
        for place, width in places:
            if width % self.model.head_size:
                raise ValueError(f"{place}: {width} is not divisible by model.head_size {self.model.head_size}")
        if self.model.head_size % 2:
            raise ValueError(f"model.head_size: {self.model.head_size} is odd; rotary positions need pairs")
        if self.batch.tokens % self.model.context:
            raise ValueError(
                f"batch.tokens: {self.batch.tokens} is not a multiple of model.context {self.model.context}"
            )
        for width in self.replicates.widths:
            if width not in self.grid.widths:
                raise ValueError(f"replicates.widths: {width} is not one of grid.widths {self.grid.widths}")
        if self.seed in self.replicates.seeds:
            raise ValueError(f"replicates.seeds: {self.seed} is already language_model.seed")
        return self
