"""A static page as a Space of the stand-in for the Hub."""

import pytest

from hf_gpt_scratch.apps.static_page import StaticPage, write_static
from support.hub_scripts import sentence

pytestmark = pytest.mark.hub


@pytest.fixture
def page(tmp_path):
    """The folder of a page whose model and libraries are empty files."""
    model = tmp_path / "onnx-model"
    (model / "onnx").mkdir(parents=True)
    (model / "onnx" / "model.onnx").write_bytes(b"")
    (model / "tokenizer.json").write_text("{}")
    write_static(model, tmp_path / "page", StaticPage("A page", "", "", "m", "classify.html", (), (), packages=()))
    return tmp_path / "page"


def test_a_page_goes_there_and_a_second_one_takes_its_place(hub, elsewhere, page, tmp_path):
    pushed = elsewhere("push", str(page), "user/page", "--space", "--private")
    assert pushed.returncode == 0, pushed.stderr
    repo = hub.repos["user/page"]
    assert (repo.kind, repo.sdk, repo.private) == ("space", "static", True)
    here = {path.relative_to(page).as_posix(): path.read_bytes() for path in page.rglob("*") if path.is_file()}
    there = repo.commits[repo.refs["main"]]
    assert {name: there[name] for name in here} == here and there.keys() - here == {".gitattributes"}
    assert f"Pushed {len(here)} files to {hub.url}/spaces/user/page (commit " in pushed.stdout
    [assets] = page.glob("assets-*")
    assets.rename(page / "assets-of-another-export")
    assert elsewhere("push", str(page), "user/page", "--space").returncode == 0
    kept = {name.partition("/")[0] for name in repo.commits[repo.refs["main"]] if name.startswith("assets-")}
    assert kept == {"assets-of-another-export"} and len(repo.commits) == 3


def test_what_is_no_page_or_holds_a_secret_is_not_pushed(hub, elsewhere, page, tmp_path):
    assert "is not a page: write one with" in sentence(elsewhere("push", str(tmp_path), "user/page", "--space"))
    refused = elsewhere("push", str(page), "user/page", "--space", "--with-twin")
    assert refused.returncode == 2 and "--with-twin is for a model" in refused.stderr
    dry = elsewhere("push", str(page), "user/page", "--space", "--dry-run")
    assert dry.returncode == 0 and "as a static Space; nothing was pushed" in dry.stdout
    (page / "notes.txt").write_text("my token is hf_" + "a1" * 17)
    assert "notes.txt holds a Hugging Face token" in sentence(elsewhere("push", str(page), "user/page", "--space"))
    assert hub.repos == {}
