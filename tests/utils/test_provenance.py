"""What a recorded command says."""

import pytest

from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.provenance import option


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("train spam --data_file a.tsv --seed 1", "a.tsv"),
        ("train spam --data-file=a.tsv", "a.tsv"),
        ("train spam --data_file 'my messages.tsv'", "my messages.tsv"),
        ("train spam '--data_file=my messages.tsv'", "my messages.tsv"),
        ("train spam --data_file=a.tsv --data_file b.tsv", "b.tsv"),
        ("train spam --data_file b.tsv --data_file=a.tsv", "a.tsv"),
        ("train spam --data_files a.tsv", None),
        ("train spam --data_file", None),
        (None, None),
    ],
)
def test_the_value_of_an_option_is_the_last_one_given(command, value):
    assert option(command, "data_file") == value


def test_a_command_that_cannot_be_parsed_is_one_sentence():
    with pytest.raises(InputError, match="A recorded command cannot be parsed .*No closing quotation"):
        option("train 'spam", "data_file")
