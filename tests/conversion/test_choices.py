"""The names on the command line are those of what does the work; commands/test_startup.py has what they import."""

from hf_gpt_scratch.conversion import choices, formats, gguf


def test_every_name_has_its_work():
    assert tuple(gguf.DTYPES) == choices.GGUF_DTYPES
    assert formats.MODULES.keys() == choices.FORMATS.keys()
