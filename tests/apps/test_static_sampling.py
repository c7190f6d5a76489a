"""The static pages choose tokens as Python does: the same filters, in the same order."""

import itertools

import pytest
import torch

from hf_gpt_scratch.generation.sampling import choose_tokens, penalize_repetition
from support.scripts_in_node import in_node

pytestmark = pytest.mark.node
SCRIPTS = ["sampling.js"]
SETTINGS = [
    {"temperature": temperature, "topK": top_k, "topP": top_p, "repetitionPenalty": penalty}
    for temperature, top_k, top_p, penalty in itertools.product(
        (0.3, 1.0, 1.7), (None, 0, 1, 7, 500), (None, 0.05, 0.6, 0.95, 1.0), (1.0, 1.3)
    )
]


def python_probabilities(logits, seen, settings, monkeypatch) -> torch.Tensor:
    """What `choose_tokens` gives to `torch.multinomial`."""
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "multinomial", lambda p, n, **_: found.append(p) or torch.zeros(len(p), 1).long())
        logits = penalize_repetition(logits[None], [seen], settings["repetitionPenalty"])
        choose_tokens(logits, settings["temperature"], settings["topK"], settings["topP"])
    return found[0][0]


def test_filtered_distributions_are_those_of_python(monkeypatch):
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(3, 200) * 3, torch.randn(1, 200).round()])  # the last with many ties
    seen = [3, 5, 5, 17, 199]
    code = """return data.settings.map((one) => data.rows.map((row) => {
      const { repetitionPenalty, ...choice } = one;
      const logits = penalizeRepetition(Float32Array.from(row), data.seen, repetitionPenalty);
      return [...filteredProbabilities(logits, choice)];
    }))"""
    found = torch.tensor(in_node(SCRIPTS, code, {"rows": rows.tolist(), "seen": seen, "settings": SETTINGS}))
    for settings, of_rows in zip(SETTINGS, found):
        expected = torch.stack([python_probabilities(row, seen, settings, monkeypatch) for row in rows])
        assert torch.equal(of_rows[:3] > 0, expected[:3] > 0), settings
        for rows_of in (of_rows, expected):
            rows_of[3] = rows_of[3].sort().values  # which of the ties torch keeps is up to its sort
        assert (of_rows - expected).abs().max() < 1e-6, settings


def test_sampled_tokens_come_as_often_as_their_probabilities_say():
    logits = [0.0, 1.0, 2.0, -1.0, 0.5]
    code = """const logits = Float32Array.from(data);
    const draw = (seed) => {
      const random = seededRandom(seed);
      return Array.from({ length: 20000 }, () => chooseToken(logits, { temperature: 0.8, topK: 4, random }));
    };
    return [draw(1), draw(1), draw(2), chooseToken(logits, { temperature: 0 })]"""
    first, again, other, greedy = in_node(SCRIPTS, code, logits)
    probabilities = (torch.tensor(logits) / 0.8).softmax(-1)
    probabilities[3] = 0
    counts = torch.bincount(torch.tensor(first), minlength=5) / len(first)
    assert (counts - probabilities / probabilities.sum()).abs().max() < 0.01
    assert first == again != other and greedy == 2 and 3 not in first


def test_neighbouring_seeds_draw_different_numbers():
    code = "return data.map((seed) => { const r = seededRandom(seed); return [r(), r(), r(), r()]; })"
    drawn = torch.tensor(in_node(SCRIPTS, code, list(range(2000))))
    assert len(set(drawn[:, 0].tolist())) == 2000
    assert (drawn.mean(0) - 0.5).abs().max() < 0.03 and drawn.min() >= 0 and drawn.max() < 1
    assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.08
