"""The settings that name a model say which one is wrong."""

import pytest

from hf_gpt_scratch.errors import InputError
from hf_gpt_scratch.model_arguments import ModelArguments


@pytest.mark.parametrize("option", ["model_name_or_path", "tokenizer_name"])
def test_missing_folder_names_the_option(tmp_path, option):
    folder = tmp_path / "small"
    with pytest.raises(InputError, match=rf"no folder {folder}; .* by --{option}"):
        ModelArguments(**{option: str(folder)}).make_tokenizer([])
