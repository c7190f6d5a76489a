"""What the shared pipeline tests hold against each pipeline; transformers' own such modules are not distributed."""

from pathlib import Path

import pytest
import torch
from transformers import pipeline

from hf_gpt_scratch.tokenizer import train_tokenizer
from support import conformance_shared as shared_tests

TEXTS = ["see you at home", "win a free prize now, win it"]


class PipelineTests:
    task = None
    settings = {}

    def get_test_pipeline(self, model, tokenizer, dtype="float32", **processors):
        return pipeline(self.task, model=model, tokenizer=tokenizer, dtype=dtype, device="cpu", **self.settings), TEXTS

    def run_pipeline_test(self, pipe, examples):
        for text in examples:
            inputs = pipe.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                self.check(pipe, text, inputs, pipe.model(**inputs))


class FeatureExtractionPipelineTests(PipelineTests):
    task = "feature-extraction"

    def check(self, pipe, text, inputs, outputs):
        assert torch.allclose(torch.tensor(pipe(text)), outputs[0].float(), atol=1e-3)


class TextGenerationPipelineTests(PipelineTests):
    task = "text-generation"

    def check(self, pipe, text, inputs, outputs):
        (answer,) = pipe(text, max_new_tokens=1, do_sample=False)
        assert answer["generated_text"] == text + pipe.tokenizer.decode(outputs.logits[0, -1].argmax())


class TextClassificationPipelineTests(PipelineTests):
    task = "text-classification"

    def check(self, pipe, text, inputs, outputs):
        (answer,) = pipe(text)
        score, label = outputs.logits[0].softmax(-1).max(-1)
        assert answer["label"] == pipe.model.config.id2label[label.item()]
        assert answer["score"] == pytest.approx(score.item(), abs=1e-3)


class TokenClassificationPipelineTests(PipelineTests):
    task = "token-classification"

    def check(self, pipe, text, inputs, outputs):
        answers = pipe(text, ignore_labels=[])
        labels = [pipe.model.config.id2label[label.item()] for label in outputs.logits[0].argmax(-1)]
        assert [answer["entity"] for answer in answers] == labels


class ZeroShotClassificationPipelineTests(PipelineTests):
    task = "zero-shot-classification"
    settings = {"candidate_labels": ["home", "money"]}

    def check(self, pipe, text, inputs, outputs):
        answer = pipe(text)
        assert sorted(answer["labels"]) == ["home", "money"]
        assert sum(answer["scores"]) == pytest.approx(1, abs=1e-3)


def install(folder: Path, models: list) -> None:
    """Saves tiny `models` in `folder`, and has the shared pipeline tests use them and the classes above."""
    mixin = shared_tests.load("test_pipeline_mixin")
    tokenizer = train_tokenizer(TEXTS, 270)
    tokenizer.model_max_length = models[0].config.n_positions
    for model in models:
        name = type(model).__name__
        mixin.tiny_model_summary[name] = {"tokenizer_classes": [type(tokenizer).__name__], "processor_classes": []}
        for saved in (model, tokenizer):
            saved.save_pretrained(folder / model.config.model_type / name)
    mixin.TRANSFORMERS_TINY_MODEL_PATH = str(folder)
    for test in PipelineTests.__subclasses__():
        path = next(spec["test"] for spec in mixin.pipeline_test_mapping.values() if test.__name__ in spec["test"])
        shared_tests.add_module(path.rpartition(".")[0], **{test.__name__: test})
