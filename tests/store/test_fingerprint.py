from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataworth.errors import RequestError
from dataworth.store import canonical_json, fingerprint

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(), c, max_size=3), max_leaves=10
)


@given(JSON)
def test_canonical_json_keeps_the_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_key_order_does_not_matter_but_values_do(spec):
    backwards = dict(reversed(list(spec.items())))
    assert fingerprint(spec) == fingerprint(backwards)
    key = next(iter(spec))
    assert fingerprint({**spec, key: spec[key] + 1}) != fingerprint(spec)


def test_the_bytes_are_fixed_for_ever():
    assert canonical_json({"b": (1, 2.5), "a": "é"}) == b'{"a":"\\u00e9","b":[1,2.5]}'
    assert fingerprint({}) == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({"a": float("nan")}, "spec.a"),
        ({"a": [1, float("inf")]}, "spec.a[1]"),
        ({"a": np.float64(1)}, "spec.a"),
        ({"a": np.arange(2)}, "spec.a"),
        ({1: 2}, "key 1"),
        ({"a": b"x"}, "spec.a"),
        ({"a": {1, 2}}, "spec.a"),
    ],
)
def test_what_is_no_plain_json_is_refused_by_place(bad, place):
    with pytest.raises(RequestError) as error:
        fingerprint(bad)
    assert place in str(error.value)
