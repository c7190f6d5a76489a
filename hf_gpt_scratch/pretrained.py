"""Where training starts: a model of this package, or a stock GPT-2 that is converted on the way."""

import tempfile
from pathlib import Path

from .configuration_gpt_scratch import GPTScratchConfig
from .conversion import convert
from .conversion.source import read_config, resolve_source
from .modeling_gpt_scratch import GPTScratchPreTrainedModel


def load_pretrained(
    model_class: type[GPTScratchPreTrainedModel], name_or_path: str, **config_settings
) -> GPTScratchPreTrainedModel:
    """
    Loads a local folder or a Hub repository, of this package or of stock GPT-2, as `model_class`. A head the
    checkpoint lacks starts from random weights.

    Args:
        config_settings: settings to change, such as `id2label` or a dropout.

    Raises:
        InputError: when it is neither.
    """
    folder = resolve_source(name_or_path)
    if read_config(folder).get("model_type") == GPTScratchConfig.model_type:
        return model_class.from_pretrained(folder, **config_settings)
    with tempfile.TemporaryDirectory() as converted:
        return model_class.from_pretrained(convert(str(folder), Path(converted) / "model"), **config_settings)
