"""Numbers that others wrote into JSON."""

import math
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether the value is a finite number; an integer that no float is as large as is none, nor is a truth value."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False
