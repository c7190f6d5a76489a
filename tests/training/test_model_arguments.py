"""The settings that name a model say which one is wrong."""

import pytest

from hf_gpt_scratch.training.arguments import ModelArguments
from hf_gpt_scratch.utils.errors import InputError


@pytest.mark.parametrize("option", ["model_name_or_path", "tokenizer_name"])
def test_missing_folder_names_the_option(tmp_path, option):
    folder = tmp_path / "small"
    with pytest.raises(InputError, match=rf"no folder {folder}; .* with --{option}"):
        ModelArguments(**{option: str(folder)}).make_tokenizer([])
