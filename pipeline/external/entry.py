"""An entry of `collect.external` in params.yaml as what is asked of a fit."""

from __future__ import annotations

import re
from dataclasses import replace

from pipeline.external.choice import RECIPE, Choice, despite_of, law_key
from pipeline.external.published import Published
from pipeline.external.where import Condition
from pipeline.fitting.estimators import estimator_named
from pipeline.params import External, Fit


def check(entry: External) -> None:
    """Raises ValueError naming the field and the value for a condition, law, estimator or number that cannot be."""
    try:
        choice_of(entry, None)
        for text in entry.where:
            Condition.parse(text)
    except ValueError as error:
        raise ValueError(as_fields(error)) from None


def choice_of(entry: External, fit: Fit | None) -> Choice:
    """What is asked of the fit of a collected table; resamples, seed and starts are those of `fit`, where given.

    Raises ValueError for a law, estimator, refusal or published number that cannot be.
    """
    published = entry.published and Published.of(entry.published.source, entry.published.numbers, "published")
    settings = {} if fit is None else {"num_resamples": fit.bootstrap, "seed": fit.seed, "num_starts": fit.num_starts}
    choice = Choice(
        law_key(entry.law),
        dict.fromkeys("NDLC"),
        estimator_named(entry.estimator, entry.delta),
        recipe=entry.recipe,
        noise=entry.noise,
        despite=despite_of(entry.despite),
        published=published,
        **settings,
    )
    choice.check()
    return replace(choice, recipe=RECIPE)  # the name under which that column was collected


def as_fields(error: ValueError) -> str:
    """A message that names options of `study fit` as one that names the fields of an entry."""
    text = re.sub(r"--([NDLC])\b", r"columns.\1", str(error))
    return re.sub(r"--(?=(where|law|estimator|delta|published|despite|noise|recipe)\b)", "", text)
