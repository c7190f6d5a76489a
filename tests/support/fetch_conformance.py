"""
Fetches transformers' own shared tests, of the installed version, from its source distribution on the package index.

    python tests/support/fetch_conformance.py

They land in `.cache/` of this repository, which git ignores; `test_conformance.py` runs them.
"""

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

VERSION = version("transformers")
FOLDER = Path(__file__).parents[2] / ".cache" / f"transformers-{VERSION}"


def main() -> None:
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as partial:
        options = ["--no-deps", "--no-binary", "transformers", "--dest", partial, "--quiet"]
        subprocess.run(
            [sys.executable, "-P", "-m", "pip", "download", *options, f"transformers=={VERSION}"], check=True
        )
        with tarfile.open(next(Path(partial).glob("*.tar.gz"))) as archive:
            members = [name for name in archive.getnames() if "/tests/" in name]
            archive.extractall(partial, members, filter="data")
        source = next(Path(partial).glob("*/tests")).parent
        # Two of the tests' modules execute these files to get at the transformers that is imported already.
        for path in (source / "tests" / "__init__.py", source / "src" / "transformers" / "__init__.py"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        summary = source / "tests" / "utils" / "tiny_model_summary.json"  # of models on the Hub, none of which we use
        summary.parent.mkdir(exist_ok=True)
        summary.write_text("{}")
        source.rename(FOLDER)
    print(f"transformers {VERSION}'s shared tests are in {FOLDER}.")


if __name__ == "__main__" and not FOLDER.is_dir():
    main()
