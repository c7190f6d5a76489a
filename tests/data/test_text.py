"""Text to pretrain on: read in pieces, split, tokenized, cut into windows or packed; streamed as in memory."""

import hashlib
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from hf_gpt_scratch.data import text
from hf_gpt_scratch.data.rows import PackedDocuments, StreamedRows, Windows
from hf_gpt_scratch.data.text import load_text, split, tokenize
from hf_gpt_scratch.tokenizer import END_TOKEN, gpt2_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.bad_server import bad_server

STORY = Path(__file__).parents[2] / "training" / "demo_data" / "story.txt"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([STORY.read_text()], 400)


@pytest.fixture
def small_pieces(monkeypatch):
    """A short text is then read in many pieces and blocks, as a long one is."""
    monkeypatch.setattr(text, "PIECE", 100)
    monkeypatch.setattr(text, "BLOCK", 400)
    monkeypatch.setattr(text, "LARGEST_BLOCK", 1000)


def all_tokens(part, tokenizer) -> list[int]:
    return np.concatenate(list(tokenize(part, tokenizer))).tolist()


def in_memory(path, share=0.1):
    return split(load_text(path), share, False, 0)


def test_the_verdict_makes_the_books_windows(shared_data):
    """The book's chapter 5 trains on 4608 tokens and validates on 512, which one loop over its lines shows."""
    path = shared_data / "verdict" / "the-verdict.txt"
    tokenizer = gpt2_tokenizer(*(shared_data / "gpt2_tokenizer" / name for name in ("vocab.json", "merges.txt")))
    train, validation, _ = in_memory(path)
    rows = [Windows(256, 256).in_memory(tokenize(part, tokenizer)) for part in (train, validation)]
    assert [256 * len(part) for part in rows] == [4608, 512]
    content = path.read_text()
    ids = tokenizer(content[: int(0.9 * len(content))], verbose=False)["input_ids"]
    for number, start in enumerate(range(0, len(ids) - 256, 256)):
        batch = Windows(256, 256).collate([rows[0][number]])
        assert batch["input_ids"][0].tolist() == ids[start : start + 256]
        assert batch["shift_labels"][0].tolist() == ids[start + 1 : start + 257]


def test_a_text_without_white_space_is_cut_all_the_same(small_pieces, tmp_path):
    (tmp_path / "a.txt").write_text("x" * 2500)
    pieces = [piece for piece, _ in load_text(tmp_path / "a.txt").pieces() if piece]
    assert "".join(pieces) == "x" * 2500 and max(map(len, pieces)) == 1000


@pytest.mark.parametrize("stride", [1, 7, 16])
def test_windows_begin_a_stride_apart_wherever_blocks_end(stride):
    ids = np.arange(100, dtype=np.int32)
    expected = [ids[i : i + 17].tolist() for i in range(0, 100 - 16, stride)]
    for blocks in ([ids], np.split(ids, [3, 40, 41, 99])):
        windows = Windows(16, stride)
        assert [row.tolist() for row in windows.rows(blocks)] == expected
        assert [row.tolist() for row in windows.in_memory(blocks)] == expected


def test_pieces_have_the_tokens_of_the_whole(small_pieces, tokenizer, tmp_path):
    story = STORY.read_text()
    letters = "".join(filter(str.isalpha, story[:900]))
    long_words = " ".join(letters[i:] for i in range(0, 63, 9))  # each of several pieces, cut elsewhere
    content = story[:5000] + "\n\n \t  it's   so\u00a0much\u3000space \n" + long_words + story[5000:]
    (tmp_path / "a.txt").write_text(content)
    train, validation, _ = in_memory(tmp_path / "a.txt", 0.3)
    cut = int(len(content) * 0.7)
    assert len(list(train.pieces())) > 50
    assert all_tokens(train, tokenizer) == tokenizer(content[:cut], verbose=False)["input_ids"]
    expected = tokenizer(content[cut:], verbose=False)["input_ids"] + [tokenizer.eos_token_id]
    assert all_tokens(validation, tokenizer) == expected


def test_a_stream_has_the_rows_of_memory(small_pieces, tokenizer, tmp_path):
    """But for the split: here both parts of a stream together are the whole text, and nothing is in both."""
    content = STORY.read_text()
    (tmp_path / "a.txt").write_text(content)
    train, validation, _ = split(load_text(tmp_path / "a.txt"), 0.1, True, 1000)
    assert "".join(piece for piece, _ in [*validation.pieces(), *train.pieces()]) == content
    assert len("".join(piece for piece, _ in validation.pieces())) == 1000
    held = Windows(32, 16).in_memory(tokenize(train, tokenizer))
    stream = StreamedRows(train, tokenizer, Windows(32, 16), buffer=10, seed=1)
    rows = [tuple(row) for row in islice(stream, 2 * len(held))]
    expected = [tuple(row) for row in held]
    assert rows[: len(held)] != expected  # shuffled
    assert sorted(rows[: len(held)]) == sorted(rows[len(held) :]) == sorted(expected)
    assert rows[: len(held)] != rows[len(held) :]  # otherwise in the second pass
    assert rows == [tuple(row) for row in islice(stream, 2 * len(held))]


@pytest.mark.parametrize("packing", ["windows", "documents"])
def test_a_stream_is_the_same_however_many_workers_read_it(small_pieces, tokenizer, tmp_path, packing):
    (tmp_path / "a.txt").write_text(STORY.read_text())
    train, _, _ = split(load_text(tmp_path / "a.txt"), 0.1, True, 1000)
    layout = Windows(8, 8) if packing == "windows" else PackedDocuments(16, tokenizer.eos_token_id)
    stream = StreamedRows(train, tokenizer, layout, buffer=3, seed=1)
    several_passes = 3 * len(layout.in_memory(tokenize(train, tokenizer)))

    def batches(workers: int) -> list[str]:
        loader = DataLoader(stream, batch_size=5, num_workers=workers, collate_fn=str)
        return list(islice(loader, several_passes // 5))

    assert batches(0) == batches(1) == batches(2)


def test_a_last_token_alone_is_no_row():
    rows = PackedDocuments(8, 99).in_memory([np.arange(1, 18)])
    assert sorted(len(row["input_ids"]) for row in rows) == [8, 8]
    assert all(set(row["labels"]) != {-100} for row in rows)


def test_documents_are_packed_whole(tokenizer, tmp_path):
    for name, content in {"b.txt": "One story.", "a.md": f"Two.{END_TOKEN}Three.", "c.rst": "No."}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.txt").write_text(STORY.read_text()[:300])
    (tmp_path / "empty.txt").write_text("\n")
    whole, _, _ = in_memory(tmp_path, 1e-9)
    end = [tokenizer.eos_token_id]
    documents = [tokenizer(t)["input_ids"] + end for t in ("Two.", "Three.", "One story.", STORY.read_text()[:300])]
    assert all_tokens(whole, tokenizer) == sum(documents, [])[:-1]  # the last character validates: no end
    train, _, _ = split(load_text(tmp_path), 0.1, True, 0)
    assert all_tokens(train, tokenizer) == sum(documents, [])
    rows = PackedDocuments(30, tokenizer.eos_token_id).in_memory(tokenize(train, tokenizer))
    found = []
    for row in rows:
        assert len(row["input_ids"]) <= 30
        starts = [i for i, position in enumerate(row["position_ids"]) if position == 0]
        found += [row["input_ids"][a:b] for a, b in zip(starts, [*starts[1:], None])]
        assert all(row["labels"][start] == -100 for start in starts)
    parts = [document[i : i + 30] for document in documents for i in range(0, len(document) - 1, 30)]
    assert sorted(found) == sorted(parts) and len(rows) < len(parts)


def test_hashes_and_the_hub(tokenizer, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("a", "b"):
        (tmp_path / "texts" / f"{name}.txt").write_text(f"Text {name}.\r\nEnd.")
    hashes = [hashlib.sha256(f"Text {name}.\r\nEnd.".encode()).hexdigest() for name in "ab"]
    assert load_text(tmp_path / "texts" / "a.txt").sha256 == hashes[0]
    lines = "".join(f"{hashed}  {name}.txt\n" for hashed, name in zip(hashes, "ab"))
    assert load_text(tmp_path / "texts").sha256 == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "rows").mkdir()
    rows = [{"story": f"Story {number}.", "id": number} for number in range(250)] + [{"story": None, "id": 250}]
    (tmp_path / "rows" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hub = load_text(dataset_name=str(tmp_path / "rows"), text_column="story")
    assert hub.revision and hub.characters is None
    train, validation, _ = split(hub, 0.1, True, 16)
    documents = tokenizer.decode(all_tokens(train, tokenizer)).split(END_TOKEN)
    assert documents == [*(f"Story {number}." for number in range(2, 250)), ""]
    assert "".join(piece for piece, _ in validation.pieces()) == "Story 0.Story 1."
    with pytest.raises(InputError, match="no column 'text' of text, but story, id"):
        load_text(dataset_name=str(tmp_path / "rows"))
    with pytest.raises(InputError, match="could not be loaded"):
        load_text(dataset_name=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b" \n\n", "There is no text in"),
        ("Größe".encode("latin-1"), "is not UTF-8 text"),
        (b"cut in the middle \xe2\x82", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_text_is_named(content, reason, tmp_path):
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_text(path)
    assert reason in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_settings_that_leave_nothing(tokenizer, tmp_path):
    with pytest.raises(InputError, match="has no .txt or .md files"):
        load_text(tmp_path)
    (tmp_path / "a.txt").write_text("A short text.")
    with pytest.raises(UsageError, match="not both"):
        load_text(tmp_path / "a.txt", "user/texts")
    with pytest.raises(UsageError, match="must be between 0 and 1, not 1"):
        split(load_text(tmp_path / "a.txt"), 1.0, False, 0)
    with pytest.raises(UsageError, match="stride must be 1 to 16"):
        Windows(16, 17)
    train, _, _ = split(load_text(tmp_path / "a.txt"), 0.1, True, 1)
    with pytest.raises(InputError, match="is shorter than 64 tokens"):
        StreamedRows(train, tokenizer, Windows(64, 64), 10, 0)


def test_the_download_is_checked(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match="the-verdict.txt could not be downloaded .*offline mode.*--data_file"):
        load_text()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with bad_server(b"Not The Verdict.") as server:
        monkeypatch.setattr(text, "VERDICT_URL", f"{server.url}/the-verdict.txt")
        with pytest.raises(InputError, match=f"its SHA-256 is not {text.VERDICT_SHA256}"):
            load_text()
