"""`hf-gpt-scratch examples`: the files of data arrive whole, and nothing is overwritten."""

import shlex
from collections import Counter

import pytest

from hf_gpt_scratch.cli import main, make_parser
from hf_gpt_scratch.commands import examples
from hf_gpt_scratch.commands.examples import NEXT, data_files
from hf_gpt_scratch.data.labelled_texts import leaked_rows, load_labelled_texts, split


def test_every_file_is_copied_and_each_has_a_next_command_that_parses(tmp_path, capsys):
    assert main(["examples", str(tmp_path / "new" / "folder")]) == 0
    output = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {file.name for file in data_files()}
    for file in data_files():
        path = tmp_path / "new" / "folder" / file.name
        assert path.read_bytes() == file.read_bytes()
        assert (command := NEXT[file.name].format(path)) in output
        program, *words = shlex.split(command)
        assert program == "hf-gpt-scratch" and make_parser().parse_args(words)


@pytest.mark.parametrize("name", [file.name for file in data_files()])
def test_nothing_is_overwritten(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert main(["examples", str(tmp_path)]) == 1
    assert f"{tmp_path / name} already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_what_a_killed_command_began_is_finished_and_only_that(tmp_path, capsys):
    first, second, *_ = data_files()
    (tmp_path / first.name).write_bytes(first.read_bytes())
    assert main(["examples", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        file.name: file.read_bytes() for file in data_files()
    }
    assert main(["examples", str(tmp_path)]) == 1
    (tmp_path / first.name).write_bytes(b"mine")
    (tmp_path / second.name).unlink()
    assert main(["examples", str(tmp_path)]) == 1 and not (tmp_path / second.name).exists()
    assert f"{tmp_path / first.name}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["new", "mine"])
def test_where_a_file_cannot_be_written_none_is_left(tmp_path, capsys, monkeypatch, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    last = data_files()[-1].name

    def full(path, content):
        if path.name == last:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    monkeypatch.setattr(examples, "write_whole", full)
    assert main(["examples", str(tmp_path / name)]) == 1
    assert last in capsys.readouterr().err
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["mine", "mine/notes.txt"]


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["examples", str(tmp_path / "file")]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tickets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    assert main(["examples", str(folder)]) == 0
    return load_labelled_texts(folder / "tickets.csv", outside_labels=["other"])


def test_the_tickets_are_as_described(tickets):
    assert tickets.names == ("account", "billing", "delivery", "technical")
    assert Counter(tickets.labels) == {0: 75, 1: 75, 2: 75, 3: 75, -1: 40}
    assert len(set(tickets.texts)) == 340 and any("\n" in text for text in tickets.texts)
    assert leaked_rows(split(tickets, seed=1)) == 0


def test_the_tickets_can_be_learned_but_are_not_trivial(tickets):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    texts = [text for text, label in zip(tickets.texts, tickets.labels) if label >= 0]
    labels = [label for label in tickets.labels if label >= 0]
    assert (
        0.88
        < cross_val_score(make_pipeline(TfidfVectorizer(sublinear_tf=True), LinearSVC()), texts, labels).mean()
        < 0.97
    )
