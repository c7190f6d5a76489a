import json
import os
import random
import subprocess
import sys

import pytest
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from transformers import AutoTokenizer, GPT2Config

from hf_gpt_scratch.tokenizer import END_TOKEN, PAD_TOKEN, gpt2_tokenizer, load_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.files import is_missing_folder

# The regular expression of OpenAI's release, github.com/openai/gpt-2/blob/master/src/encoder.py
GPT2_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
# Many words are equally frequent, so that a tokenizer that breaks ties at random differs from run to run.
TEXTS = ["".join(random.Random(i).choices("abcdefgh 0123456789", k=60)) for i in range(40)] * 2
HARD_TEXTS = (
    *("", " ", "  two  spaces  ", "line\r\nend\n\n", "\ttab", "we'll, I'M, it's", "a , b . c !", "£5,000.00 / 3½"),
    *(
        "naïve café",
        "e\u0301",
        "日本語のテキスト",
        "שלום עולם",
        "👩‍👩‍👧 👍🏽",
        "\u200b\ufeff\u00a0",
        "\x00\x1c\x7f",
        "<|pad |>",
    ),
)


def random_texts() -> list[str]:
    """Characters of all of Unicode but the surrogates, which are no text."""
    rng = random.Random(0)
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    return ["".join(map(chr, rng.choices(points, k=50))) for _ in range(100)]


@pytest.fixture(scope="module")
def gpt2(shared_data):
    return gpt2_tokenizer(shared_data / "gpt2_tokenizer" / "vocab.json", shared_data / "gpt2_tokenizer" / "merges.txt")


@pytest.fixture(scope="module")
def real_texts(shared_data) -> list[str]:
    messages = (shared_data / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    instructions = json.loads((shared_data / "instruction" / "instruction-data.json").read_text(encoding="utf-8"))
    return [
        *messages,
        *(text for row in instructions for text in row.values()),
        (shared_data / "verdict" / "the-verdict.txt").read_text(encoding="utf-8"),
    ]


def test_gpt2_ids_are_those_of_tiktoken(gpt2, real_texts, shared_data, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # no copies of the two files outside the test
    files = (str(shared_data / "gpt2_tokenizer" / name) for name in ("merges.txt", "vocab.json"))
    reference = tiktoken.Encoding(
        "gpt2",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=data_gym_to_mergeable_bpe_ranks(*files),
        special_tokens={END_TOKEN: 50256},
        explicit_n_vocab=50257,
    )
    texts = [*real_texts, *HARD_TEXTS, *random_texts(), f"one{END_TOKEN}two"]
    expected = reference.encode_batch(texts, num_threads=1, allowed_special="all")
    assert gpt2(texts, verbose=False)["input_ids"] == expected


def test_gpt2_decodes_what_it_encoded(gpt2, real_texts):
    texts = [*real_texts, *HARD_TEXTS]
    assert gpt2.batch_decode(gpt2(texts, verbose=False)["input_ids"]) == texts


def test_gpt2_pads_with_the_end_token_which_the_mask_tells_apart(gpt2):
    assert (gpt2.pad_token, gpt2.eos_token, gpt2.pad_token_id, len(gpt2)) == (END_TOKEN, END_TOKEN, 50256, 50257)
    batch = gpt2([f"a{END_TOKEN}", "a b c"], padding=True)
    assert batch["input_ids"][0][1:] == [50256, 50256]
    assert batch["attention_mask"][0] == [1, 1, 0]


def test_missing_gpt2_file_is_named(tmp_path):
    with pytest.raises(InputError, match="vocab.json does not exist"):
        gpt2_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_load_tokenizer_pads_with_the_end_token_where_there_is_no_other(gpt2, tmp_path):
    gpt2.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token is None
    assert load_tokenizer(tmp_path).pad_token_id == 50256


@pytest.mark.parametrize("individual_digits", [False, True])
def test_trained_tokenizer_round_trips_any_text(individual_digits):
    tokenizer = train_tokenizer(TEXTS, 300, individual_digits)
    texts = [*TEXTS, *HARD_TEXTS, *random_texts()]
    assert tokenizer.batch_decode(tokenizer(texts)["input_ids"]) == texts


def test_trained_tokenizer_has_a_pad_token_of_its_own():
    tokenizer = train_tokenizer(TEXTS, 300)
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD_TOKEN, END_TOKEN)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer(["a", "ab" * 5], padding=True)["input_ids"][0][-1] == tokenizer.pad_token_id
    assert tokenizer(END_TOKEN)["input_ids"] == [tokenizer.eos_token_id]


def test_individual_digits_are_tokens():
    plain, single = (train_tokenizer(["call 0800 now"] * 20, 400, digits) for digits in (False, True))
    assert plain.tokenize("0800") != single.tokenize("0800") == ["0", "8", "0", "0"]


def test_lowercase_makes_one_token_of_a_word_wherever_and_however_it_is_written(tmp_path):
    tokenizer = train_tokenizer(["Free prize", "a FREE prize 12"] * 20, 300, individual_digits=True, lowercase=True)
    assert tokenizer.tokenize("FREE free Free") == ["Ġfree"] * 3
    assert tokenizer.decode(tokenizer("A Prize 12")["input_ids"]) == " a prize 12"
    text = "FREE Ünïcode İstanbul 12"
    encoding = tokenizer(text, return_offsets_mapping=True)
    assert encoding["offset_mapping"][-1][1] == len(text)
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == encoding["input_ids"]


@pytest.mark.parametrize("vocab_size", [0, 257])
def test_vocabulary_without_room_for_all_bytes_is_refused(vocab_size):
    with pytest.raises(InputError, match=f"at least 258 tokens, not {vocab_size}"):
        train_tokenizer(TEXTS, vocab_size)


@pytest.mark.parametrize("vocab_size", [258, 300])
def test_vocabulary_has_the_size_asked_for(vocab_size):
    assert len(train_tokenizer(TEXTS, vocab_size)) == vocab_size


def python(code: str, *args: str, stdin: str = "", **environ: str) -> str:
    """What `code` prints in a Python process of its own."""
    command, environment = [sys.executable, "-c", code, *args], {**os.environ, **environ}
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_is_deterministic_across_processes():
    code = """
import json, sys
from hf_gpt_scratch.tokenizer import train_tokenizer
sys.stdout.write(train_tokenizer(json.load(sys.stdin), 400).backend_tokenizer.to_str())
"""
    elsewhere = python(code, stdin=json.dumps(TEXTS), PYTHONHASHSEED="1")
    assert elsewhere == train_tokenizer(TEXTS, 400).backend_tokenizer.to_str()


@pytest.mark.parametrize("individual_digits", [False, True])
def test_saved_tokenizer_gives_the_same_ids(tmp_path, individual_digits):
    tokenizer = train_tokenizer(TEXTS, 300, individual_digits, model_max_length=64)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS, *HARD_TEXTS]
    assert reloaded(texts, padding=True).data == tokenizer(texts, padding=True).data
    assert (reloaded.pad_token, reloaded.eos_token, reloaded.model_max_length) == (PAD_TOKEN, END_TOKEN, 64)


def test_tokenizer_beside_a_model_with_code_loads_without_the_package_and_without_questions(tmp_path, tiny_config):
    tokenizer = train_tokenizer(TEXTS, 300, individual_digits=True)
    tokenizer.save_pretrained(tmp_path)
    tiny_config.save_pretrained(tmp_path)
    assert "auto_map" in json.loads((tmp_path / "config.json").read_text())
    # A question about trust would take its answer from stdin, and the texts with it. With neither True nor False,
    # transformers asks one because of config.json, although the tokenizer has no code; nothing saved can prevent it.
    code = """
import json, sys
from transformers import AutoTokenizer
loaded = [AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=trust) for trust in (False, True)]
assert "hf_gpt_scratch" not in sys.modules
texts = json.load(sys.stdin)
print(json.dumps([tokenizer(texts)["input_ids"] for tokenizer in loaded]))
"""
    without_trust, with_trust = json.loads(python(code, str(tmp_path), stdin=json.dumps(TEXTS)))
    assert without_trust == with_trust == tokenizer(TEXTS)["input_ids"]


@pytest.mark.parametrize("content", [None, "{", '{"a": 1}'], ids=["absent", "broken JSON", "not a tokenizer"])
@pytest.mark.parametrize("model_type", [None, "gpt_scratch", "gpt2"])
def test_folder_without_a_tokenizer_is_refused(tmp_path, tiny_config, model_type, content):
    if model_type:
        (tiny_config if model_type == "gpt_scratch" else GPT2Config()).save_pretrained(tmp_path)
    if content:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_gpt2s_two_files_alone_are_a_tokenizer(shared_data):
    tokenizer = load_tokenizer(shared_data / "gpt2_tokenizer")
    assert tokenizer("Hello world")["input_ids"] == [15496, 995] and tokenizer.pad_token == "<|endoftext|>"


@pytest.mark.parametrize("name", ["{folder}/none", "./none", "{folder}"])
def test_folder_without_a_tokenizer_is_told_from_a_repository(tmp_path, name):
    with pytest.raises(InputError, match="There is no folder|neither tokenizer.json nor vocab.json"):
        load_tokenizer(name.format(folder=tmp_path))


def test_folder_beside_others_is_not_sought_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_missing_folder("runs/gpt2") and not is_missing_folder("openai-community/gpt2")


@pytest.mark.parametrize("template", [5, True, False, {"default": 5}, [{"name": "default", "template": 7}]])
def test_a_chat_template_that_is_no_text_is_refused(tmp_path, template):
    train_tokenizer(TEXTS, 300).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    with pytest.raises(InputError, match="chat_template|tokenizer"):
        load_tokenizer(tmp_path)
