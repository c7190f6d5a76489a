"""A GPT written from scratch that is a real Hugging Face model; importing the package registers its Auto classes."""

import os

# PyTorch's threads (GNU OpenMP) wait for each other by spinning. Beside other work on the same cores, steps of a small
# model then take 15 times as long as with a short spin, which costs nothing on idle ones. Torch reads it as it loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from transformers import (  # noqa: E402
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_gpt_scratch import GPTScratchConfig
from .modeling_gpt_scratch import (
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
)

AutoConfig.register("gpt_scratch", GPTScratchConfig)
AutoModel.register(GPTScratchConfig, GPTScratchModel)
AutoModelForCausalLM.register(GPTScratchConfig, GPTScratchForCausalLM)
AutoModelForSequenceClassification.register(GPTScratchConfig, GPTScratchForSequenceClassification)
AutoModelForTokenClassification.register(GPTScratchConfig, GPTScratchForTokenClassification)

__version__ = "0.1.0"

__all__ = [
    "GPTScratchConfig",
    "GPTScratchForCausalLM",
    "GPTScratchForSequenceClassification",
    "GPTScratchForTokenClassification",
    "GPTScratchModel",
]
