"""A result card is read as it was written, and what is no card is named."""

import pytest

from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.provenance import environment
from hf_gpt_scratch.utils.result_card import Metric, ResultCard, read_card, read_cards


def test_card_comes_back_as_it_was_written(tmp_path):
    card = ResultCard(
        task="counting",
        protocol="by hand",
        data=[{"source": "a.txt", "sha256": "0" * 64}],
        metrics={"f1": Metric(0.9, [0.8, 1.0]), "perplexity": Metric(3.0, higher_is_better=False)},
        baselines={"guessing": {"f1": Metric(0.5)}},
        seeds=[1, 2],
        command="python count.py",
        environment=environment(),
        predictions="predictions.csv",
    )
    assert card.write(tmp_path, "count") == tmp_path / "results" / "count.json"
    assert read_cards(tmp_path) == {"count": card}


def test_what_is_no_card_is_named(tmp_path):
    with pytest.raises(InputError, match="no results"):
        read_cards(tmp_path)
    path = tmp_path / "card.json"
    for text in ("[]", "{}", '{"version": 1, "metrics": {}, "baselines": {}}', "not JSON"):
        path.write_text(text)
        with pytest.raises(InputError, match="card.json is not a result card"):
            read_card(path)
    path.write_text('{"version": 2}')
    with pytest.raises(InputError, match="another version"):
        read_card(path)
