"""
transformers' own shared tests, run against this package's classes.

A test may skip itself only where the same test, on a stock GPT-2 of the same shape, does not pass either.
"""

import unittest

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
)

from hf_gpt_scratch import (
    GPTScratchConfig,
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
)
from support import conformance_pipelines as pipelines
from support import conformance_shared as shared_tests
from support import fetch_conformance as fetch

pytestmark = pytest.mark.conformance

if not fetch.FOLDER.is_dir():
    pytest.skip(
        f"transformers {fetch.VERSION}'s shared tests are not here; run `python tests/support/fetch_conformance.py`",
        allow_module_level=True,
    )

OURS = {
    "config": GPTScratchConfig,
    "base": GPTScratchModel,
    "causal_lm": GPTScratchForCausalLM,
    "sequence": GPTScratchForSequenceClassification,
    "token": GPTScratchForTokenClassification,
}
STOCK = {
    "config": GPT2Config,
    "base": GPT2Model,
    "causal_lm": GPT2LMHeadModel,
    "sequence": GPT2ForSequenceClassification,
    "token": GPT2ForTokenClassification,
}


class ModelTester:
    """What the shared tests ask about a family of models: a tiny configuration and inputs that fit it."""

    batch_size = 4
    seq_length = 7
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    is_training = True

    def __init__(self, family: dict[str, type]):
        self.config_class = family["config"]
        self.base_model_class = family["base"]
        self.causal_lm_class = family["causal_lm"]
        self.sequence_classification_class = family["sequence"]

    def get_config(self):
        return self.config_class(
            vocab_size=99,
            n_positions=512,
            n_embd=self.hidden_size,
            n_layer=self.num_hidden_layers,
            n_head=self.num_attention_heads,
            bos_token_id=98,
            eos_token_id=98,
            pad_token_id=97,
            resid_pdrop=0.0,  # some tests compare training on one batch with training on its halves
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = self.batch_size, self.seq_length
        input_ids = torch.randint(0, 97, shape)
        return self.get_config(), {"input_ids": input_ids, "attention_mask": torch.ones(shape, dtype=torch.long)}


def shared_test_case(family: dict[str, type]) -> type[unittest.TestCase]:
    """The test case that a model inside transformers would have for its family of classes."""
    modeling = shared_tests.load("test_modeling_common")
    # They run what takes processes on a choice of transformers' models, and give labels to heads they know by name.
    shared_tests.load("test_tensor_parallel_mixin").TP_DISTRIBUTED_TEST_MODEL_TYPES = None
    shared_tests.load("test_fsdp_mixin").FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None
    for name, model_class in (
        ("MODEL", GPTScratchModel),
        ("MODEL_FOR_CAUSAL_LM", GPTScratchForCausalLM),
        ("MODEL_FOR_SEQUENCE_CLASSIFICATION", GPTScratchForSequenceClassification),
        ("MODEL_FOR_TOKEN_CLASSIFICATION", GPTScratchForTokenClassification),
    ):
        known = {**getattr(modeling, f"{name}_MAPPING_NAMES"), "gpt_scratch": model_class.__name__}
        setattr(modeling, f"{name}_MAPPING_NAMES", known)
    tasks = {
        "feature-extraction": family["base"],
        "text-generation": family["causal_lm"],
        "text-classification": family["sequence"],
        "zero-shot": family["sequence"],
        "token-classification": family["token"],
    }

    class Case(
        modeling.ModelTesterMixin,
        modeling.GenerationTesterMixin,
        shared_tests.load("test_training_mixin").TrainingTesterMixin,
        shared_tests.load("test_pipeline_mixin").PipelineTesterMixin,
        shared_tests.load("test_tensor_parallel_mixin").TensorParallelTesterMixin,
        shared_tests.load("test_fsdp_mixin").FSDPTesterMixin,
        unittest.TestCase,
    ):
        all_model_classes = tuple(model_class for name, model_class in family.items() if name != "config")
        all_generative_model_classes = (family["causal_lm"],)
        pipeline_model_mapping = tasks
        model_tester = None

        def setUp(self):
            self.model_tester = ModelTester(family)
            config_tester = shared_tests.load("test_configuration_common").ConfigTester
            self.config_tester = config_tester(self, config_class=family["config"], n_embd=32, n_head=4)

        def test_config(self):
            self.config_tester.run_common_tests()

    return Case


# Not by names of their own, which pytest would collect as well.
CASES = {"ours": shared_test_case(OURS), "stock": shared_test_case(STOCK)}
NAMES = unittest.TestLoader().getTestCaseNames(CASES["ours"])


def outcome(family: str, name: str) -> tuple[str, str]:
    """Runs one test and returns `passed`, `skipped` or `failed`, and why."""
    result = unittest.TestResult()
    CASES[family](name).run(result)
    for _, traceback in result.errors + result.failures:
        return "failed", traceback
    for _, reason in result.skipped:
        return "skipped", reason
    return "passed", ""


@pytest.fixture(scope="session", autouse=True)
def tiny_models(tmp_path_factory):
    torch.manual_seed(0)
    models = []
    for family in (OURS, STOCK):
        config = ModelTester(family).get_config()
        config.vocab_size, config.eos_token_id, config.bos_token_id, config.pad_token_id = 280, 0, 0, 1
        models += [model_class(config) for name, model_class in family.items() if name != "config"]
    pipelines.install(tmp_path_factory.mktemp("pipelines"), models)


@pytest.mark.parametrize("name", NAMES)
def test_conformance(name):
    found, reason = outcome("ours", name)
    if found == "failed":
        pytest.fail(reason, pytrace=False)
    if found == "skipped":
        assert outcome("stock", name)[0] != "passed", f"skipped, but stock GPT-2 passes: {reason}"
        pytest.skip(reason)
