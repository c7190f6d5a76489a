"""Loading is silent, and leaves transformers' settings as they were."""

import os

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from hf_gpt_scratch import Chat, GPTScratchForSequenceClassification, TextClassifier, load
from hf_gpt_scratch.model_folder import loading
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model


def test_the_python_api_loads_silently(tmp_path, capfd):
    chat = save_model(tmp_path / "chat", chat=CHAT_TEMPLATE, n_positions=256)
    spam = save_model(tmp_path / "spam", GPTScratchForSequenceClassification)
    hub_before = are_progress_bars_disabled()
    capfd.readouterr()
    load(chat), Chat.from_pretrained(chat), TextClassifier.from_pretrained(spam)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled() and logging.get_verbosity() == logging.WARNING
    assert are_progress_bars_disabled() == hub_before


def test_settings_are_restored_after_a_failure(tmp_path, capfd):
    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(folder)
    assert logging.is_progress_bar_enabled() and logging.get_verbosity() == logging.WARNING


def test_a_large_model_shows_its_progress(tmp_path, capfd, monkeypatch):
    folder = save_model(tmp_path / "model")
    monkeypatch.setattr(loading, "SMALL", 10)
    capfd.readouterr()
    load(folder)
    assert "Loading weights" in capfd.readouterr().err


class Code:
    """Pickles into a call that makes the folder `ran`."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_is_refused_without_advice_to_load_it_all_the_same(tmp_path, monkeypatch):
    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Code()}, folder / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="holds more than tensors") as refusal:
        load(folder)
    assert "weights_only" not in str(refusal.value) and not (tmp_path / "ran").exists()
