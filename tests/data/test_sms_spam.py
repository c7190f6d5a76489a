import csv
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from hf_gpt_scratch.data.sms_spam import MEMBER, SHA256, Messages, leaked_rows, load_messages, normalize, split
from hf_gpt_scratch.utils.errors import InputError
from support.bad_server import bad_server


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
    (tmp_path / "messages").write_bytes(content)
    return load_messages(tmp_path / "messages")


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


@pytest.mark.parametrize("sources, complaint", [(["x"], "x does not exist"), (["x", "owner/name"], "not both")])
def test_missing_and_contradicting_sources_are_refused(tmp_path, sources, complaint):
    with pytest.raises(InputError, match=complaint):
        load_messages(tmp_path / sources[0], *sources[1:])


def test_failed_download_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"collection.zip could not be downloaded \(.*offline mode.*--data_file"):
        load_messages()


def test_a_damaged_download_is_not_kept(monkeypatch, tmp_path, shared_data):
    zipped = tmp_path / "good.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(shared_data / "sms_spam" / "SMSSpamCollection", "SMSSpamCollection")
    content = zipped.read_bytes()
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with bad_server(content[:-30]) as server:
        monkeypatch.setattr("hf_gpt_scratch.data.sms_spam.URL", f"{server.url}/sms.zip")
        with pytest.raises(InputError, match="sms.zip could not be downloaded .*is damaged"):
            load_messages()
        assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
        server.content = content
        assert [len(load_messages().texts) for _ in range(2)] == [5574, 5574]
        assert len(server.requests) == 2  # the third time it was there


def test_hub_data_set_gives_the_same_messages_as_the_file(monkeypatch, tmp_path):
    rows = Dataset.from_dict({"sms": ["hi\n", "win\n"], "label": [0, 1]})  # the Hub's texts end in a line break
    monkeypatch.setattr("hf_gpt_scratch.data.download.load_dataset", lambda name, split: rows)
    assert load_messages(dataset_name="owner/sms").sha256 == load(tmp_path, b"ham\thi\nspam\twin\n").sha256


def write_table(path: Path, rows: list[tuple]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "sms"), *rows])
    return path


def test_a_message_with_a_line_break_is_one_message(tmp_path):
    write_table(tmp_path / "train.csv", [("ham", "two\nlines, one message"), (1, "win"), (0, "hi\n")])
    messages = load_messages(tmp_path)
    assert messages.texts == ["two\nlines, one message", "win", "hi"] and messages.labels == [0, 1, 0]
    rows = Dataset.from_dict({"sms": ["two\nlines\n", "win"], "label": [0, 1]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_gpt_scratch.data.download.load_dataset", lambda name, split: rows)
        assert load_messages(dataset_name="owner/sms").texts == ["two\nlines", "win"]


def test_the_book_split_refuses_a_message_of_two_lines():
    messages = Messages(["two\nlines"] + ["hi"] * 30 + ["win"] * 20, [0] * 31 + [1] * 20, "invented")
    with pytest.raises(InputError, match="--protocol grouped"):
        split(messages, "book", seed=1)


@pytest.mark.parametrize("label", [-1, 2, "eggs", ""])
@pytest.mark.parametrize("source", ["folder", "file", "hub"])
def test_a_label_that_is_neither_ham_nor_spam_is_named(monkeypatch, tmp_path, label, source):
    path = write_table(tmp_path / "train.csv", [(0, "hi"), (label, "what"), ("spam", "win")])
    monkeypatch.setattr(
        "hf_gpt_scratch.data.download.load_dataset",
        lambda name, split: Dataset.from_dict({"sms": ["hi", "what", "win"], "label": ["0", str(label), "spam"]}),
    )
    sources = {"folder": {"data_file": tmp_path}, "file": {"data_file": path}, "hub": {"dataset_name": "owner/name"}}
    with pytest.raises(InputError, match=f"row {2 if source == 'hub' else 3}: unknown label '{label}'; it must be 0"):
        load_messages(**sources[source])


def make_zip(path: Path, member: str, content: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return path


def spoil_compressed_bytes(content: bytes) -> bytes:
    start = 30 + len(MEMBER)  # a zip's local header is 30 bytes and the name
    return content[:start] + bytes(255 - byte for byte in content[start : start + 8]) + content[start + 8 :]


@pytest.mark.parametrize(
    "member, damage, complaint",
    [
        (MEMBER, bytes, "does not have the collection's SHA-256"),
        ("readme", bytes, f"has no {MEMBER} in it"),
        (MEMBER, lambda content: content[:-40], "is incomplete"),
        (MEMBER, spoil_compressed_bytes, "damaged"),
    ],
    ids=["wrong checksum", "no member", "truncated", "corrupt"],
)
def test_unusable_zip_is_refused(tmp_path, member, damage, complaint):
    path = make_zip(tmp_path / "sms.zip", member, "ham\thello there\n" * 100)
    path.write_bytes(damage(path.read_bytes()))
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


def test_grouped_split_depends_on_the_seed_alone(invented):
    first, again, other = (split(invented, "grouped", seed)["test"]["text"] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("protocol", ["grouped", "book"])
@pytest.mark.parametrize(
    "texts, labels",
    [
        ([], []),
        (["hi", "you", "me", "win"], [0, 0, 0, 1]),
        ([f"hi {'x' * i}" for i in range(12)] + ["win 1", "WIN 2"], [0] * 12 + [1, 1]),
    ],
    ids=["none", "four", "spam of one kind"],
)
def test_too_few_messages_to_split_are_refused(texts, labels, protocol):
    with pytest.raises(InputError):
        split(Messages(texts, labels, "invented"), protocol, seed=1)


def test_book_split_refuses_messages_its_csv_reader_cannot_read():
    texts = ["hi"] * 30 + ['"win'] + ["win"] * 19  # the quotation mark is never closed
    with pytest.raises(InputError):
        split(Messages(texts, [0] * 30 + [1] * 20, "invented"), "book", seed=1)


def test_unknown_protocol_is_refused(invented):
    with pytest.raises(InputError, match="'random'"):
        split(invented, "random", seed=1)


def test_real_collection_is_the_documented_one_from_its_file_and_its_zip(collection, tmp_path):
    assert Counter(collection.labels) == {0: 4827, 1: 747}
    assert collection.sha256 == SHA256 == "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
    assert load_messages(make_zip(tmp_path / "sms.zip", MEMBER, collection.tsv)).texts == collection.texts


def test_grouped_split_of_the_real_collection_has_the_natural_share_of_spam(collection):
    splits = split(collection, "grouped", seed=123)
    assert leaked_rows(splits) == 0
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert len(splits[name]) / 5574 == pytest.approx(share, abs=0.01)
        assert sum(splits[name]["label"]) / len(splits[name]) == pytest.approx(747 / 5574, abs=0.01)


def test_book_split_of_the_real_collection_is_the_published_one(collection):
    splits = split(collection, "book", seed=1)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [1045, 149, 300]
    assert sum(sum(part["label"]) for part in splits.values()) == 747
    train = set(splits["train"]["text"])
    assert sum(text in train for text in splits["test"]["text"]) == 37
