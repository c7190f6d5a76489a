import pytest

from hf_gpt_scratch.data.columns import read_texts
from hf_gpt_scratch.utils.errors import InputError


def write(path, content: str):
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize(
    "name, content, texts",
    [
        ("m.txt", "Hello, you\n\nWell; well\r\nlast", ["Hello, you", "", "Well; well", "last"]),
        ("m.txt", "form\x0cfeed\u2028and\n", ["form\x0cfeed\u2028and"]),
        ("messages", "label,text\na,b\n", ["label,text", "a,b"]),
        (
            "m.csv",
            "message\nHello, how are you?\nFine, thanks, and you?\n",
            ["Hello, how are you?", "Fine, thanks, and you?"],
        ),
        ("m.csv", 'id,Text\n1,"two\nlines, one message"\n2,\n', ["two\nlines, one message", ""]),
        ("m.csv", "id;text\n1;Hello, you\n2;Well\n", ["Hello, you", "Well"]),
        ("m.json", '["a", "b, c"]', ["a", "b, c"]),
        ("m.jsonl", '{"text": "a"}\n{"text": 1}\n{"other": 2}', ["a", "1", ""]),
        ("m.txt", "\n \n", []),
    ],
)
def test_texts_of_lines_and_of_tables(tmp_path, name, content, texts):
    assert read_texts(write(tmp_path / name, content)) == texts


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("m.csv", "id,message\n1,Hello\n2,Hello, you\n3,hi\n", "m.csv, row 3: it has 3 cells, and the header has 2"),
        ("m.csv", "Hello, how are you\nFine\nOk\n", "first row .* is 'Hello, how are you', which may be a text"),
        ("m.csv", "a,b\n1,2\n", "which column .* holds the texts: 'a', 'b'; say so with --text_column"),
        ("m.csv", "label,id,a,b\nx,1,2,3\n", "holds the texts: 'a', 'b'; say so"),
        ("m.json", '[{"text": ["a"]}]', "m.json, row 1: 'text' must be text, not a list"),
    ],
)
def test_a_text_is_never_cut_or_guessed(tmp_path, name, content, complaint):
    with pytest.raises(InputError, match=complaint):
        read_texts(write(tmp_path / name, content))


def test_a_column_can_be_named(tmp_path):
    assert read_texts(write(tmp_path / "m.csv", "a,b\n1,2\n"), "b") == ["2"]
    assert read_texts(write(tmp_path / "lines", "a;b\n1;2\n"), "b") == ["2"]
