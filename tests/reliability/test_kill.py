"""Training jobs that are killed end as if they were not: a few tries of each, of the report's part on that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.kill
@pytest.mark.parametrize("subject", ["train spam", "train pretrain", "train classify", "train chat"])
def test_a_job_that_was_killed_ends_as_if_it_was_not(subject):
    command = [sys.executable, "training/reliability/all.py", "--only", "kill", "--quick", "--subjects", subject]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "2 of 2 survived, 0 lost" in ended.stdout
