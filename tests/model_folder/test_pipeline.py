"""
`pipeline("text-classification", folder, trust_remote_code=True)` where this package is not installed says what
`TextClassifier` says: calibrated, with thresholds, the outside label, long texts and words.
"""

import json
import shutil
import subprocess
import sys

import pytest

from hf_gpt_scratch import TextClassifier
from hf_gpt_scratch.model_folder.code import named_code, require_own_code
from hf_gpt_scratch.model_folder.contents import CODE_FILES, ModelFolder
from hf_gpt_scratch.utils.errors import InputError
from support.classifiers import TEXTS, save_classifier

LONG = " ".join(TEXTS * 2)
EARLY = {"0.99": {"threshold": 0.56}}
KINDS = {
    "four": {"calibration": {"temperature": 0.7, "shift": [0.5, 0.0, -0.5, 0.1], "outside_threshold": 0.45}},
    "two": {"names": ("ham", "spam"), "calibration": {"shift": 0.4, "threshold": 0.6, "early": EARLY}},
    "several": {"problem_type": "multi_label_classification", "calibration": {"threshold": [0.3, 0.5, 0.6, 0.5]}},
    "windows": {"long_texts": "windows", "calibration": {"early": EARLY}},
    "last": {"long_texts": "last"},
    "plain": {},
}
PROGRAM = """
import json, sys
sys.modules["hf_gpt_scratch"] = None
import transformers
transformers.logging.set_verbosity_error()
found = {}
for kind, folder in json.loads(sys.argv[1]).items():
    classify = transformers.pipeline("text-classification", model=folder, trust_remote_code=True)
    texts = json.loads(sys.argv[2])
    found[kind] = {
        "module": type(classify).__module__,
        "one": classify(texts[0]),
        "all": classify(texts),
        "batches": classify(texts, batch_size=3),
        "top": classify(texts, top_k=2),
        "scores": classify(texts, top_k=None),
        "words": classify(texts, words=True),
        "softmax": classify(texts, function_to_apply="softmax"),
    }
    if classify.model.config.calibration and "early" in classify.model.config.calibration:
        found[kind]["early"] = classify(texts, decide_at=0.99)
    for options in ({"decide_at": 0.5}, {"words": True, "top_k": 1}):
        try:
            classify(texts[0], **options)
        except ValueError as error:
            found[kind].setdefault("errors", []).append(str(error))
classify.save_pretrained(sys.argv[3])
again = transformers.pipeline(model=sys.argv[3], trust_remote_code=True)
found["again"] = again(texts)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("classifiers")
    return {kind: save_classifier(folder / kind, **{"calibration": {}, **one}) for kind, one in KINDS.items()}


@pytest.fixture(scope="module")
def elsewhere(folders, tmp_path_factory) -> dict:
    """What the pipelines of a clean process say."""
    again, texts = tmp_path_factory.mktemp("again"), [*TEXTS, LONG, "  see you "]
    named = json.dumps({kind: str(folder) for kind, folder in folders.items()})
    command = [sys.executable, "-c", PROGRAM, named, json.dumps(texts), str(again)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert {path.name for path in again.glob("*.py")} == set(CODE_FILES)
    assert "not supported" not in run.stderr
    return {**json.loads(run.stdout.splitlines()[-1]), "texts": texts}


def close(found: dict, expected: dict) -> bool:
    return found == {**expected, "score": pytest.approx(expected["score"], abs=1e-5)}


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_classifier_says(kind, folders, elsewhere):
    classifier, found, texts = TextClassifier.from_pretrained(folders[kind]), elsewhere[kind], elsewhere["texts"]
    names, labels = classifier.labels, set()
    assert found["module"].startswith("transformers_modules.")
    assert found["one"] == found["all"][:1]
    for number, said in enumerate(classifier.classify(texts)):
        scores = dict(zip(names, said.probabilities))
        expected = {"label": said.label, "score": scores.get(said.label, max(said.probabilities))}
        if kind == "several":
            expected["labels"] = list(said.labels)
        assert close(found["all"][number], expected) and close(found["batches"][number], expected)
        ranked = sorted(scores, key=scores.get, reverse=True)
        assert [one["label"] for one in found["scores"][number]] == ranked
        assert all(one["score"] == pytest.approx(scores[one["label"]], abs=1e-5) for one in found["scores"][number])
        assert found["top"][number] == found["scores"][number][:2]
        readings, words = classifier.read_words(said.text), found["words"][number]["words"]
        assert [word["word"] for word in words] == [reading.word.strip() for reading in readings]
        assert [word["label"] for word in words] == [reading.label for reading in readings]
        for word, reading in zip(words, readings):
            assert word["scores"] == pytest.approx(dict(zip(names, reading.probabilities)), abs=1e-5)
        labels.add(said.label)
    assert len(labels) > 1


def test_the_early_verdict_too(folders, elsewhere):
    for kind in ("two", "windows"):
        said = TextClassifier.from_pretrained(folders[kind]).classify(elsewhere["texts"], decide_at=0.99)
        places = [prediction.decided_at for prediction in said]
        assert [one["decided_at"] for one in elsewhere[kind]["early"]] == places and len(set(places)) > 1
    assert "No early verdict was fitted for an agreement of 0.5; the model has 0.99." in elsewhere["two"]["errors"]
    assert "hf-gpt-scratch calibrate" in elsewhere["plain"]["errors"][0]
    assert elsewhere["plain"]["errors"][1].startswith("words cannot be used with top_k")


def test_without_a_calibration_it_is_transformers_own(elsewhere):
    plain = elsewhere["plain"]
    assert [one["label"] for one in plain["all"]] == [one["label"] for one in plain["softmax"]]
    assert [one["score"] for one in plain["all"]] == pytest.approx(
        [one["score"] for one in plain["softmax"]], abs=1e-5
    )
    calibrated = elsewhere["four"]
    assert [one["score"] for one in calibrated["softmax"]] != [one["score"] for one in calibrated["all"]]


def test_saved_again_by_the_pipeline_it_says_the_same(elsewhere):
    assert elsewhere["again"] == elsewhere["plain"]["all"]


def test_only_a_sequence_classifier_names_the_pipeline(folders, tmp_path):
    from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification

    def custom(folder):
        return json.loads((folder / "config.json").read_text()).get("custom_pipelines")

    [task] = custom(folders["two"])
    assert task == "text-classification"
    model = GPTScratchForCausalLM.from_pretrained(folders["two"])
    model.save_pretrained(tmp_path / "lm")
    assert custom(tmp_path / "lm") is None and {path.name for path in (tmp_path / "lm").glob("*.py")} == set(
        CODE_FILES
    )
    # As saved before there was the third file; saved again, it has it.
    old = shutil.copytree(folders["two"], tmp_path / "old")
    settings = json.loads((old / "config.json").read_text())
    settings.pop("custom_pipelines")
    (old / "config.json").write_text(json.dumps(settings))
    (old / "pipeline_gpt_scratch.py").unlink()
    GPTScratchForSequenceClassification.from_pretrained(old).save_pretrained(tmp_path / "new")
    assert custom(tmp_path / "new") and (tmp_path / "new" / "pipeline_gpt_scratch.py").is_file()


def test_a_pipeline_of_others_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["two"], tmp_path / "model")
    assert named_code(ModelFolder.read(folder)) == (set(CODE_FILES), set())
    settings = json.loads((folder / "config.json").read_text())
    for impl, problem in {"user/evil--x.Y": "names code that is not in the folder", "x.Y": "x.py: not this"}.items():
        settings["custom_pipelines"]["text-classification"]["impl"] = impl
        (folder / "config.json").write_text(json.dumps(settings))
        (folder / "x.py").write_text("print('it ran')")
        with pytest.raises(InputError, match=problem):
            require_own_code(ModelFolder.read(folder))
