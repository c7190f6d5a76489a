"""How good a model is, with intervals, beside a baseline, in numbers and pictures."""
