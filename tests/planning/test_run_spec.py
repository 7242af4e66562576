"""Equal work has equal ids whatever its labels, other work has others, and what has no stable form is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.run_spec import RunSpec, canonical_json

SPEC = RunSpec("language_model", "trunk", {"width": 64, "rate": 0.01, "batch": {"tokens": 256}}, 0, "data", "code")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_the_id_ignores_what_changes_no_number():
    for change in ({"label": "another"}, {"flops": 1e12}, {"resumes_id": "abc"}):
        assert replace(SPEC, **change).run_id == SPEC.run_id


def test_the_id_follows_everything_that_changes_the_numbers():
    changes = [
        {"experiment": "other"},
        {"kind": "cooldown"},
        {"settings": SPEC.settings | {"rate": 0.02}},
        {"settings": SPEC.settings | {"batch": {"tokens": 512}}},
        {"seed": 1},
        {"data_digest": "other"},
        {"code_digest": "other"},
        {"parent_id": "abc"},
    ]
    ids = {replace(SPEC, **change).run_id for change in changes} | {SPEC.run_id}
    assert len(ids) == len(changes) + 1


def test_an_id_stays_the_same_from_one_version_to_the_next():
    assert SPEC.run_id == "c1d0d3976f47808f"


def test_the_order_of_keys_does_not_matter():
    turned = replace(SPEC, settings=dict(reversed(SPEC.settings.items())))
    assert turned.run_id == SPEC.run_id
    assert RunSpec.from_json(turned.to_json()) == SPEC


@given(JSON)
def test_canonical_json_reads_back_as_it_was(value):
    import json

    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1, 2}}, r"value\.a: .* of type set has no stable form"),
        ({"a": [float("nan")]}, r"value\.a\[0\]: nan has no stable form"),
        ({"a": object()}, r"of type object has no stable form"),
        ({1: 2}, r"value: key 1 is not text"),
    ],
)
def test_values_without_a_stable_form_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        canonical_json(value)


def test_a_number_that_is_not_finite_is_named_where_a_spec_is_written_too():
    with pytest.raises(ValueError, match=r"spec\.flops: nan has no stable form"):
        replace(SPEC, flops=float("nan")).to_json()
    with pytest.raises(ValueError, match=r"settings\.rate: inf has no stable form"):
        replace(SPEC, settings={"rate": float("inf")}).to_json()
