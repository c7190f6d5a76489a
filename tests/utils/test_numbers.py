"""Numbers that others wrote into JSON."""

import json

import pytest

from hf_gpt_scratch.utils.numbers import is_number


@pytest.mark.parametrize("text", ["0", "-3", "0.5", "1e308", "9" * 300])
def test_a_finite_number_is_one(text):
    assert is_number(json.loads(text))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-1e400", "9" * 400, "true", "null", '"1"', "[1]"])
def test_what_no_float_can_be_is_none(text):
    assert not is_number(json.loads(text))
