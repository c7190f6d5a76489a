"""A GPT written from scratch that is a real Hugging Face model; importing the package registers its Auto classes."""

from transformers import (
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
