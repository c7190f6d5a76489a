"""The folder of an adapter, given to each command: it works, or a sentence says what to do."""

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import GPT2ForSequenceClassification

from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.adapters import save_adapters
from support.commands import run_command

TEXT = "abc def gh"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    return save_adapters(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def expected(adapters):
    """The probabilities of the four labels, by PEFT."""
    folder = adapters / "SEQ_CLS"
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=4).eval()
    return model(**load_tokenizer(folder)(TEXT, return_tensors="pt")).logits[0].softmax(-1).detach()


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_of_more_labels_than_its_base_is_classified_with(adapters, expected, capsys):
    run_command("classify", adapters / "SEQ_CLS", TEXT)
    label, probability, _ = capsys.readouterr().out.split("\t")
    assert label == f"LABEL_{expected.argmax()}"
    assert float(probability) == pytest.approx(expected.max().item(), abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_on_a_language_model_is_exported(adapters, expected, tmp_path):
    run_command("export", adapters / "SEQ_CLS", tmp_path / "stock", "--to", "hf-gpt2")
    model = GPT2ForSequenceClassification.from_pretrained(tmp_path / "stock")
    tokenizer = load_tokenizer(adapters / "base")
    logits = model(**tokenizer(TEXT, return_tensors="pt")).logits[0]
    torch.testing.assert_close(logits.softmax(-1).detach(), expected, atol=1e-5, rtol=0)


REFUSED = [
    (
        ("export", "SEQ_CLS", "OUT", "--to", "gguf"),
        r"SEQ_CLS holds a GPTScratchForSequenceClassification; GGUF takes only",
    ),
    (
        ("classify", "CAUSAL_LM", TEXT),
        "CAUSAL_LM holds a language model, not a classifier: use `hf-gpt-scratch generate",
    ),
    (
        ("generate", "SEQ_CLS", "--prompt", "a"),
        "SEQ_CLS holds a classifier, not a language model: use `hf-gpt-scratch cl",
    ),
    (
        ("convert", "CAUSAL_LM", "OUT"),
        "CAUSAL_LM is an adapter of .*base, .* needs no conversion: every command",
    ),
    (("calibrate", "CAUSAL_LM"), "CAUSAL_LM holds a language model, and calibrate is for classifiers"),
    (("calibrate", "SEQ_CLS"), "SEQ_CLS has no metrics.json .* give an output folder of"),
    (("benchmark", "SEQ_CLS", "SEQ_CLS"), "SEQ_CLS has no metrics.json .* give an output folder of"),
    (
        ("evaluate", "SEQ_CLS", "--tasks", "wikitext"),
        "SEQ_CLS holds a classifier, and evaluate is for language models",
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("words", "reason"), REFUSED, ids=lambda value: "-".join(value[:2]) if type(value) is tuple else ""
)
def test_what_an_adapter_is_not_for_says_what_to_do(words, reason, adapters, tmp_path):
    places = {"OUT": tmp_path / "out", **{task: adapters / task for task in ("CAUSAL_LM", "SEQ_CLS")}}
    with pytest.raises(InputError, match=reason) as refusal:
        run_command(*(places.get(word, word) for word in words))
    assert "\n" not in str(refusal.value)
