import zipfile
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from hf_gpt_scratch.data.sms_spam import MEMBER, SHA256, Messages, leaked_rows, load_messages, normalize, split
from hf_gpt_scratch.errors import InputError


@pytest.fixture(scope="module")
def collection(shared_data) -> Messages:
    return load_messages(shared_data / "sms_spam" / MEMBER)


@pytest.fixture(scope="module")
def invented() -> Messages:
    """400 messages of which 100 are spam; half of them come in pairs that differ in letter case and digits."""
    texts, labels = [], []
    for i in range(200):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(i))
        spam = int(i % 8 < 2)
        first = f"Win {name} prizes" if spam else f"See you at {name}"
        texts += [f"{first}, call 0{i}", f"{first.upper()}! Call 9{i}" if i % 2 else f"Other {first}"]
        labels += [spam, spam]
    return Messages(texts, labels, "invented")


def load(tmp_path: Path, content: bytes) -> Messages:
    path = tmp_path / "messages"
    path.write_bytes(content)
    return load_messages(path)


@pytest.mark.parametrize(
    "line, complaint",
    [(b"ham hello", "no tab"), (b"eggs\thello", "unknown label 'eggs'"), (b"ham\t ", "empty"), (b"", "no tab")],
)
def test_malformed_line_is_named(tmp_path, line, complaint):
    with pytest.raises(InputError, match=f"line 2: .*{complaint}"):
        load(tmp_path, b"ham\tfirst\n" + line + b"\nspam\tlast\n")


@pytest.mark.parametrize(
    "content",
    [b"ham\thi\nspam\twin\n", b"ham\thi\nspam\twin", b"ham\thi\r\nspam\twin\r\n", b"\xef\xbb\xbfham\thi\nspam\twin\n"],
    ids=["plain", "no last newline", "CRLF", "BOM"],
)
def test_line_ends_and_byte_order_mark_are_no_text(tmp_path, content):
    messages = load(tmp_path, content)
    assert (messages.texts, messages.labels) == (["hi", "win"], [0, 1])


def test_quotation_marks_and_later_tabs_are_text(tmp_path):
    texts = ['"hi', 'he said "no"', "a\tb", 'end"']
    assert load(tmp_path, "".join(f"ham\t{text}\n" for text in texts).encode()).texts == texts


def test_text_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(InputError, match="not UTF-8"):
        load(tmp_path, b"ham\tcaf\xe9\n")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_messages(tmp_path / "nowhere")


def test_two_sources_are_refused(tmp_path):
    with pytest.raises(InputError, match="not both"):
        load_messages(tmp_path / "messages", "ucirvine/sms_spam")


def test_failed_download_says_what_to_do(monkeypatch):
    def download(self, url):
        raise ConnectionError("no network")

    monkeypatch.setattr("hf_gpt_scratch.data.sms_spam.DownloadManager.download", download)
    with pytest.raises(InputError, match="no network.*--data_file"):
        load_messages()


def test_hub_data_set_gives_the_same_messages_as_the_file(monkeypatch, tmp_path):
    rows = Dataset.from_dict({"sms": ["hi\n", "win\n"], "label": [0, 1]})  # the Hub's texts end in a line break
    monkeypatch.setattr("hf_gpt_scratch.data.sms_spam.load_dataset", lambda name, split: rows)
    assert load_messages(dataset_name="owner/sms").sha256 == load(tmp_path, b"ham\thi\nspam\twin\n").sha256


def test_hub_data_set_with_other_columns_is_refused(monkeypatch):
    rows = Dataset.from_dict({"text": ["hi"], "label": [0]})
    monkeypatch.setattr("hf_gpt_scratch.data.sms_spam.load_dataset", lambda name, split: rows)
    with pytest.raises(InputError, match="no columns 'sms' and 'label'"):
        load_messages(dataset_name="owner/other")


def make_zip(path: Path, member: str, content: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return path


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def spoil_compressed_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = 30 + len(MEMBER)  # a zip's local header is 30 bytes and the name
    content[start : start + 8] = bytes(255 - byte for byte in content[start : start + 8])
    path.write_bytes(content)


@pytest.mark.parametrize(
    "member, damage, complaint",
    [
        (MEMBER, lambda path: None, "does not have the collection's SHA-256"),
        ("readme", lambda path: None, f"holds no {MEMBER}"),
        (MEMBER, cut_short, "cut short"),
        (MEMBER, spoil_compressed_bytes, "damaged"),
    ],
    ids=["wrong checksum", "no member", "truncated", "corrupt"],
)
def test_unusable_zip_is_refused(tmp_path, member, damage, complaint):
    path = make_zip(tmp_path / "sms.zip", member, "ham\thello there\n" * 100)
    damage(path)
    with pytest.raises(InputError, match=complaint):
        load_messages(path)


@pytest.mark.parametrize(
    "one, other",
    [("Win £1000 now!", "win £2500 NOW"), ("call 0800-123", "Call 0900 456."), ("snake_case", "snake case")],
)
def test_near_copies_have_the_same_normalized_text(one, other):
    assert normalize(one) == normalize(other)


def test_grouped_split_uses_every_row_once_and_keeps_near_copies_together(invented):
    splits = split(invented, "grouped", seed=1)
    rows = Counter((row["text"], row["label"]) for part in splits.values() for row in part)
    assert rows == Counter(zip(invented.texts, invented.labels))
    train, validation, test = ({normalize(text) for text in splits[name]["text"]} for name in splits)
    assert not (train & validation or train & test or validation & test)
    assert leaked_rows(splits) == 0


def test_near_copies_of_opposite_labels_stay_together():
    texts = [f"{word} {'x' * i}" for i in range(1, 41) for word in ("Free", "free!", "busy")]
    splits = split(Messages(texts, [0, 1, 0] * 40, "invented"), "grouped", seed=1)
    assert leaked_rows(splits) == 0


def test_grouped_split_depends_on_the_seed_alone(invented):
    first, again, other = (split(invented, "grouped", seed)["test"]["text"] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("protocol", ["grouped", "book"])
@pytest.mark.parametrize(
    "messages",
    [
        Messages([], [], "none"),
        Messages(["hi", "you", "me", "win"], [0, 0, 0, 1], "four"),
        # Enough ham, but the spam is one message and its near-copy.
        Messages([f"hi {'x' * i}" for i in range(12)] + ["win 1", "WIN 2"], [0] * 12 + [1, 1], "copies"),
    ],
    ids=lambda messages: messages.source,
)
def test_too_few_messages_to_split_are_refused(messages, protocol):
    with pytest.raises(InputError):
        split(messages, protocol, seed=1)


def test_book_split_refuses_messages_its_csv_reader_cannot_read():
    texts = ["hi"] * 30 + ['"win'] + ["win"] * 19  # the quotation mark is never closed
    with pytest.raises(InputError):
        split(Messages(texts, [0] * 30 + [1] * 20, "invented"), "book", seed=1)


def test_unknown_protocol_is_refused(invented):
    with pytest.raises(InputError, match="'random'"):
        split(invented, "random", seed=1)


def test_real_collection_is_the_documented_one(collection):
    assert len(collection.texts) == 5574
    assert Counter(collection.labels) == {0: 4827, 1: 747}
    assert collection.sha256 == SHA256 == "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"


def test_real_collection_is_read_from_its_zip_too(collection, tmp_path):
    messages = load_messages(make_zip(tmp_path / "sms.zip", MEMBER, collection.tsv))
    assert messages.texts == collection.texts


def test_grouped_split_of_the_real_collection_has_the_natural_share_of_spam(collection):
    splits = split(collection, "grouped", seed=123)
    assert leaked_rows(splits) == 0
    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        rows = splits[part]
        assert len(rows) / 5574 == pytest.approx(share, abs=0.01)
        assert sum(rows["label"]) / len(rows) == pytest.approx(747 / 5574, abs=0.01)


def test_book_split_of_the_real_collection_is_the_published_one(collection):
    splits = split(collection, "book", seed=1)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [1045, 149, 300]
    assert sum(sum(part["label"]) for part in splits.values()) == 747
    train = set(splits["train"]["text"])
    assert sum(text in train for text in splits["test"]["text"]) == 37
