"""How cost grows: the slopes, what they should be, and what is said where a cost grows faster."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import growth  # noqa: E402


@pytest.fixture
def sweep(tmp_path):
    return growth.sweeps(True, str(tmp_path), 1)["rows"]


def test_a_slope_is_the_power_of_the_growth():
    sizes = (100, 1000, 10_000)
    assert growth.slope(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert growth.slope(sizes, [7, 7, 7]) == pytest.approx(0)


def test_the_law_of_a_step_has_a_square_only_within_the_attention():
    assert growth.law_of_length("124M", (128, 256, 512, 1024)) == pytest.approx(1.03, abs=0.005)
    assert growth.law_of_length("124M", (100_000, 1_000_000)) == pytest.approx(2, abs=0.05)
    assert growth.memory_law_of_length("124M", (128, 256, 512, 1024)) == pytest.approx(1.19, abs=0.01)
    assert growth.memory_law_of_length("124M", (100_000, 1_000_000)) == pytest.approx(2, abs=0.05)
    assert growth.share_of_attention("124M", 1024) == pytest.approx(0.07, abs=0.005)


@pytest.mark.parametrize(
    ("power", "memory_power", "said"), [(1, 1, None), (2, 1, "time grows faster"), (1, 2, "memory grows faster")]
)
def test_growth_above_the_law_is_told_and_drawn(sweep, tmp_path, monkeypatch, power, memory_power, said):
    sweep = growth.Sweep(**{**vars(sweep), "sizes": (4000, 8000, 16_000)})
    measured = {size: (size, size ** (1 - power), 2e9, 2e9 - size**memory_power) for size in sweep.sizes}
    monkeypatch.setattr(growth, "in_a_process", lambda sweep, size, rounds: measured[size])
    found = growth.run(sweep, 2, quick=False)
    assert found["slope"] == pytest.approx(power)
    row = growth.told(sweep, found)
    assert row["asked"] is None and row["ratio"] == pytest.approx(power)
    assert ("faster" in row["note"]) == (said is not None) and (said or "") in row["note"]
    growth.draw(sweep, found, tmp_path / "pictures" / "growth.png")
    assert 5000 < (tmp_path / "pictures" / "growth.png").stat().st_size < 40_000
