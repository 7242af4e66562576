"""The runs of a one-at-a-time sweep: which dials a recipe has, what each is multiplied by, and what is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from pipeline.experiments.experiment import StudyFacts
from pipeline.experiments.language_model.plan import plan as plan_study
from pipeline.experiments.law import Dials, Seeds, law_run
from pipeline.params import Evaluation, LanguageModel, Replicates, SizesByTokens
from pipeline.planning.run_spec import RunSpec

PLACE = "params.yaml: laws.recipe_optimum"
OWN = "study"
"""The dial of a run in which every dial has the study's value."""


@dataclass(frozen=True)
class Dial:
    """Where a dial stands in params.yaml (`section`, `field`), what of it is multiplied, `quantity` in `unit`, and the
    one kind of its section (`needs`) with which it has an effect, None where it always has one.

    `complement`: one minus the value is multiplied, as for a momentum, which averages over 1 / (1 - m) steps.
    """

    section: str
    field: str
    quantity: str
    unit: str = ""
    complement: bool = False
    needs: str | None = None

    def of(self, model: LanguageModel) -> float:
        """The quantity that is multiplied, as the study has it."""
        value = getattr(getattr(model, self.section), self.field)
        return 1 - value if self.complement else value

    def has_effect(self, model: LanguageModel) -> bool:
        """Whether another value would change the study's training."""
        return self.needs in (None, getattr(getattr(model, self.section), "kind", None)) and self.of(model) > 0


DIALS = {
    "matrix_rate": Dial("optimizer", "matrix_rate", "matrix rate"),
    "embedding_rate": Dial("optimizer", "embedding_rate", "embedding rate"),
    "head_rate": Dial("optimizer", "head_rate", "head rate"),
    "momentum": Dial("optimizer", "momentum", "1 - momentum", complement=True, needs="muon"),
    "batch": Dial("batch", "tokens", "batch", "tokens"),
    "warmup": Dial("schedule", "warmup_tokens", "warm-up", "tokens"),
    "cooldown": Dial("schedule", "cooldown_fraction", "cooldown fraction", needs="wsd"),
}


def changed(model: LanguageModel, name: str, factor: float) -> LanguageModel:
    """The study with the dial `name` of DIALS multiplied by `factor`; tokens in whole numbers.

    Raises ValueError where params.yaml would not allow the value.
    """
    dial, whole = DIALS[name], model.model_dump()
    before = whole[dial.section][dial.field]
    value = 1 - factor * (1 - before) if dial.complement else factor * before
    whole[dial.section][dial.field] = round(value) if isinstance(before, int) else value
    try:
        return LanguageModel.model_validate(whole)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        place = f"{PLACE}.factors.{name}"
        raise ValueError(f"{place}: {factor:g} times the study's {before:g} is refused: {said}") from None


class Settings(Dials):
    """Dials: `factors` of each swept dial of the recipe, of which 1 is the study's own value; `widths` (None: the two
    smallest of the study) and `num_tokens` of training (None: the second smallest count of the study); `windows` of its
    validation text; `tolerance`, the regret in parts of the loss up to which a dial counts as being at its optimum."""

    seeds: Seeds
    widths: Annotated[list[PositiveInt], Field(min_length=2)] | None = None
    num_tokens: PositiveInt | None = None
    windows: PositiveInt
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    factors: Annotated[dict[str, Annotated[list[PositiveFloat], Field(min_length=3)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _sweeps_with_room_on_both_sides(self) -> Settings:
        for name, factors in self.factors.items():
            if name not in DIALS:
                raise ValueError(f"factors: {name!r} is not one of {', '.join(DIALS)}")
            if any(low >= high for low, high in pairwise(factors)) or 1 not in factors[1:-1]:
                raise ValueError(
                    f"factors: {name}: {factors} must ascend and hold 1, the study's value, with room on both sides"
                )
        if self.widths and self.widths != sorted(set(self.widths)):
            raise ValueError(f"widths: {self.widths} must ascend")
        return self


def plan_sweeps(settings: Settings, study: StudyFacts) -> Iterator[RunSpec]:
    """Points of the study as it plans them itself, each from initialisation in one piece: the recipe of the study once
    a width and seed, and every dial at its other factors.

    A dial without effect on the recipe of the study is left out. Raises ValueError when the study's model has no such
    width, its corpus or schedule no such count of tokens, or its recipe no such value.
    """
    own = study.language_model
    point = _point(settings, study)
    for width in point.grid.widths:
        if width % own.model.head_size:
            raise ValueError(f"{PLACE}.widths: {width} is not divisible by model.head_size {own.model.head_size}")
    swept = [(OWN, 1.0, 1.0, point)] + [
        (name, float(factor), float(factor * DIALS[name].of(own)), changed(point, name, factor))
        for name, factors in settings.factors.items()
        if DIALS[name].has_effect(own)
        for factor in factors
        if factor != 1
    ]
    for dial, factor, quantity, model in swept:
        for spec in plan_study(model, study):
            if spec.kind == "trunk":
                continue
            width, tokens = spec.settings["width"], spec.settings["course"]["end"]
            per_step = 1.2 * own.batch.tokens / model.batch.tokens
            seconds = tokens / 120_000 * (per_step + width / 40 + 4e-6 * width**3)
            for seed in settings.seeds:
                label = f"width {width}, {dial} x {factor:g}, seed {seed}"
                numbers = spec.settings | {"dial": dial, "factor": factor, "quantity": quantity}
                yield law_run("recipe_optimum", "language_model", numbers, seed, label=label, seconds=seconds,
                              data_digest=study.digest)  # fmt: skip


def _point(settings: Settings, study: StudyFacts) -> LanguageModel:
    """The study's model with one count of tokens at the swept widths."""
    own = study.language_model
    ends = sorted({spec.settings["course"]["end"] for spec in plan_study(own, study) if spec.kind != "trunk"})
    tokens = settings.num_tokens or ends[:2][-1]
    widths = settings.widths or sorted(own.grid.widths)[:2]
    return own.model_copy(
        update={
            "grid": SizesByTokens(kind="sizes_by_tokens", widths=widths, tokens=[tokens]),
            "replicates": Replicates(),
            "evaluation": Evaluation(
                windows=settings.windows, windows_per_document=own.evaluation.windows_per_document
            ),
        }
    )
