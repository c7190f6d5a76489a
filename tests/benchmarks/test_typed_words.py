"""The benchmark of typed words: a session says what the whole text says, read anew."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import typed_words  # noqa: E402


def test_both_ways_say_the_same_after_each_word_again_and_again(tmp_path):
    typed_words.make_model(str(tmp_path), "tiny", seed=0)
    session, anew = (make(str(tmp_path), 50) for make in (typed_words.make_session, typed_words.make_anew))
    (count, first), (_, again), (_, expected) = session(), session(), anew()
    assert count == len(first) == len(expected) == 5 and len(set(expected)) == 5
    for place in typed_words.PLACES:
        outputs = {f"{way}, {n} words in": expected for way in ("session", "anew") for n in typed_words.PLACES}
        outputs[f"session, {place} words in"] = first
        assert typed_words.differences(outputs) is None
        outputs[f"session, {place} words in"] = [*again[:-1], (0.0, 1.0)]
        assert typed_words.differences(outputs).startswith(f"{place} words in, a probability differs by")
