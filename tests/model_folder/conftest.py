import subprocess

import pytest

from hf_gpt_scratch.model_folder import clean_process


@pytest.fixture(scope="module", autouse=True)
def real_processes():
    """Clean processes are real ones here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean_process, "subprocess", subprocess)
        yield
