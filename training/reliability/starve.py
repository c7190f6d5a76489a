"""
Takes from each training job and command what it needs: the disk's room, its inodes, the right to write, the folder for
temporary files, memory, the network. It must then end in one sentence that names the place, with everything that was
there as it was, no half of anything, and must end well when it is called again and there is room.

The tries run in a process of their own (`starve_worker.py`), which sees small disks that nobody else sees.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import full_disk
from faults import Row, Settings

ROOT = Path(__file__).parents[2]


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each fault and subject."""
    before = full_disk.own_mounts()
    told = json.dumps({**asdict(settings), "folder": str(settings.folder), "disks": before is not None})
    if before is None:
        print("  no right to mount small disks: the faults of disks are not tried", flush=True)
    words = [*(before or []), sys.executable, str(Path(__file__).with_name("starve_worker.py")), told]
    paths = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as worker:
        for line in worker.stdout:
            if line.startswith("row "):
                yield Row(**json.loads(line.removeprefix("row ")))
            else:
                print(line, end="", flush=True)
    if worker.returncode:
        raise RuntimeError(f"The process of the tries ended with status {worker.returncode}.")
