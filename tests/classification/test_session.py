"""A text in pieces: the same numbers as the whole text read at once, for less work."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gpt_scratch.utils.errors import InputError
from support.classifiers import TEXTS, make_classifier

KINDS = {
    "first": {},
    "last": {"long_texts": "last"},
    "windows": {"long_texts": "windows"},
    "sliding": {"sliding_window": 5},
    "several labels": {"problem_type": "multi_label_classification"},
}
CLASSIFIERS = {kind: make_classifier(n_positions=12, **settings) for kind, settings in KINDS.items()}
PIECES = st.lists(
    st.sampled_from([*" ".join(TEXTS).split(" "), " ", "\n", "😀", "é", " free", " prize"]) | st.text(max_size=6),
    max_size=12,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(pieces=PIECES)
def test_after_each_piece_it_says_what_the_text_so_far_says(kind, pieces):
    classifier, text = CLASSIFIERS[kind], ""
    session = classifier.session()
    for piece in pieces:
        text += piece
        prediction = session.add(piece)
        if not text.strip():
            assert prediction is None
            continue
        [expected] = classifier.classify([text])
        assert (prediction.text, prediction.truncated) == (text.strip(), expected.truncated)
        assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
        assert prediction.label == expected.label or max(expected.probabilities) < 0.51


@pytest.mark.parametrize("long_texts", ["first", "windows"])
def test_a_word_costs_its_own_tokens_only(monkeypatch, long_texts):
    classifier = make_classifier(n_positions=16, long_texts=long_texts)
    words, read = " ".join(TEXTS * 2).split(" "), []
    forward = classifier.model.forward

    def counted(input_ids, **kwargs):
        read.append(input_ids.numel())
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(classifier.model, "forward", counted)
    session = classifier.session()
    for number, word in enumerate(words):
        session.add(" " * (number > 0) + word)
    [ids] = classifier.encode([" ".join(words)])
    in_session = sum(read)
    assert in_session == (16 if long_texts == "first" else len(ids))
    read.clear()
    for number in range(len(words)):  # without a session
        list(classifier.classify([" ".join(words[: number + 1])]))
    assert sum(read) > 10 * in_session


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(edits=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), PIECES.map("".join)), max_size=6))
def test_after_an_edit_it_says_what_the_edited_text_says(kind, edits):
    classifier, text = CLASSIFIERS[kind], "win a free prize at home"
    session = classifier.session()
    session.add(text)
    for start, removed, typed in [*edits, (5, 1, ""), (3, 0, "!"), (0, 99, "win a")]:
        text = text[:start] + typed + text[start + removed :]
        prediction = session.read(text)
        if not text.strip():
            assert prediction is None
            continue
        [expected] = classifier.classify([text])
        assert (prediction.text, prediction.truncated) == (text.strip(), expected.truncated)
        assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_what_is_taken_back_and_typed_again_costs_itself_only(monkeypatch):
    classifier, read = make_classifier(), []
    session = classifier.session()
    session.add("win a free prize now")
    before, forward = len(classifier.encode(["win a free prize"])[0]), classifier.model.forward
    after = len(classifier.encode(["win a free prize today"])[0])

    def counted(input_ids, **kwargs):
        read.append(input_ids.numel())
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(classifier.model, "forward", counted)
    session.read("win a free prize")
    session.read("win a free prize today")
    assert read == [after - before]


def test_an_early_verdict_is_forgotten_when_its_words_are_changed():
    classifier = make_classifier(calibration={"early": {"0.9": {"threshold": 0.0}}})
    session = classifier.session(decide_at=0.9)
    assert session.add("see you").decided_at == 2 and session.add(" at home").decided_at == 2
    assert session.read("see you at").decided_at == 2
    assert session.read("see").decided_at == 1


def test_it_goes_on_after_a_piece_that_is_no_text():
    session = CLASSIFIERS["first"].session()
    session.add("see you")
    with pytest.raises(InputError, match="UTF-8"):
        session.add("\ud800")
    [expected] = CLASSIFIERS["first"].classify(["see you soon"])
    assert session.add(" soon").probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_the_verdict_is_early_after_the_same_word_as_in_the_whole_text():
    classifier = make_classifier(calibration={"early": {"0.9": {"threshold": 0.5}}})
    for text in TEXTS:
        [expected] = classifier.classify([text], decide_at=0.9)
        session = classifier.session(decide_at=0.9)
        for number, reading in enumerate(classifier.read_words(text), start=1):
            prediction = session.add(reading.word)
            is_early = expected.decided_at is not None and number >= expected.decided_at
            assert (prediction.decided_at, prediction.decided_label) == (
                (expected.decided_at, expected.decided_label) if is_early else (None, None)
            )
    assert any(prediction.decided_at for prediction in classifier.classify(TEXTS, decide_at=0.9))
    with pytest.raises(InputError, match="No early verdict was fitted for an agreement of 0.99; the model has 0.9"):
        classifier.session(decide_at=0.99)
    with pytest.raises(InputError, match="no table of early verdicts: .* `hf-gpt-scratch calibrate"):
        make_classifier().session(decide_at=0.99)


def test_the_cache_is_of_the_models_device_and_type():
    classifier = make_classifier()
    classifier.model.to(torch.float64)
    session = classifier.session()
    session.add("see")
    [expected] = classifier.classify(["see you"])
    assert session.add(" you").probabilities == pytest.approx(expected.probabilities, abs=1e-9)


def test_its_weights_lie_as_products_with_one_token_read_them(tmp_path):
    classifier = make_classifier()
    before = {name: weight.clone() for name, weight in classifier.model.state_dict().items()}
    classifier.session()
    fc_in = classifier.model.transformer.h[0].mlp.fc_in.weight
    assert fc_in.stride() == (1, fc_in.shape[0])
    classifier.model.save_pretrained(tmp_path)
    saved = type(classifier.model).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in before.items())
