"""Temperature and threshold, against their definitions, and the command on a model that was trained for it."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef

from hf_gpt_scratch import GPTScratchConfig
from hf_gpt_scratch.classification.calibration import Calibration
from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.data.sms_spam import LABELS, load_messages, split
from hf_gpt_scratch.evaluation.metrics import BinaryClassification
from hf_gpt_scratch.evaluation.text_classification import calibration, thresholds
from hf_gpt_scratch.evaluation.text_classification.runs import log_odds
from hf_gpt_scratch.evaluation.text_classification.temperature import fit_temperature
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import Metric, read_card
from support.commands import run_command


def draw(n: int, share: float, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and log-odds that are `temperature` times too sure of them."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(int)
    evidence = rng.normal(np.where(labels == 1, 4.5, -4.5), 3.0)  # of which the log-odds are 2 * 4.5 / 3**2 * evidence
    return temperature * (evidence + np.log(share / (1 - share))), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered_and_makes_the_labels_likeliest(temperature):
    scores, labels = draw(20_000, 0.3, temperature)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    losses = {factor: log_loss(labels, expit(scores / (found * factor))) for factor in (0.9, 1.0, 1.1)}
    assert min(losses, key=losses.get) == 1.0


@pytest.mark.parametrize("n", [10, 100])
def test_a_model_without_mistakes_is_as_sure_as_so_many_messages_allow(n):
    found = fit_temperature(np.repeat([-6.0, 6.0], n), [0] * n + [1] * n)
    assert expit(-6 / found) == pytest.approx(1 / (n + 2), rel=0.01)


def test_threshold_has_the_highest_recall_that_keeps_the_promise():
    scores, labels = draw(800, 0.15)
    probabilities, share = expit(scores), labels.mean()
    threshold, at_least = thresholds.threshold_for_precision(probabilities, labels, 0.9, share)

    def bound(threshold: float) -> float:
        caught = (probabilities[labels == 1] > threshold).mean()
        mistaken = int((probabilities[labels == 0] > threshold).sum())
        ham = int((labels == 0).sum())
        most = binomtest(mistaken, ham, alternative="less").proportion_ci(0.95, "exact").high
        return share * caught / (share * caught + (1 - share) * most)

    assert bound(threshold) == pytest.approx(at_least) and at_least >= 0.9

    def caught(threshold: float) -> int:
        return (probabilities[labels == 1] > threshold).sum()

    most = max(caught(score - 1e-9) for score in probabilities if bound(score - 1e-9) >= 0.9)
    next_higher = probabilities[probabilities > threshold].min() + 1e-9
    assert caught(threshold) == most > caught(next_higher)


def test_no_precision_is_given_away_where_there_is_no_more_spam_to_catch():
    ham, spam = np.linspace(0.01, 0.2, 500), np.linspace(0.8, 0.99, 75)
    probabilities, labels = np.concatenate([ham, spam]), [0] * 500 + [1] * 75
    threshold, _ = thresholds.threshold_for_precision(probabilities, labels, 0.9, 0.13)
    assert threshold == pytest.approx(0.5)


def test_the_promise_is_kept_on_other_messages():
    kept = []
    for seed in range(40):
        scores, labels = draw(900, 0.15, seed=seed)
        threshold, _ = thresholds.threshold_for_precision(expit(scores), labels, 0.85, labels.mean())
        others, truth = draw(60_000, 0.15, seed=1000 + seed)
        kept.append(truth[expit(others) > threshold].mean() >= 0.85)
    assert np.mean(kept) > 0.9  # with a confidence of 95 %


def test_a_promise_that_the_data_cannot_carry_is_refused():
    scores, labels = draw(100, 0.15)
    with pytest.raises(InputError, match=r"0.999 cannot be promised from \d+ spam and \d+ ham .* at most 0\.\d"):
        thresholds.threshold_for_precision(expit(scores), labels, 0.999, labels.mean())


@pytest.mark.parametrize("precision", [0.8, 0.95, 0.99])
def test_so_many_ham_messages_promise_a_precision_and_one_fewer_does_not(precision):
    needed = thresholds.ham_needed(precision, caught=0.9, prevalence=0.2)

    def reached(ham: int) -> float:
        most = binomtest(0, ham, alternative="less").proportion_ci(0.95, "exact").high
        return 0.2 * 0.9 / (0.2 * 0.9 + 0.8 * most)

    assert reached(needed) >= precision > reached(needed - 1)


def test_numbers_of_the_messages_as_they_are_have_the_intervals_of_the_training():
    """So that a report does not show two intervals for one number."""
    scores, labels = draw(300, 0.2)
    probabilities = expit(scores)
    measured = calibration.metrics_at(0.5, probabilities, labels)
    expected = BinaryClassification().compute(predictions=probabilities > 0.5, references=labels)
    for name in ("f1", "precision", "recall", "mcc", "accuracy"):
        assert measured[name] == Metric(expected[name], expected["intervals"][name]), name
    weighted = calibration.metrics_at(0.5, probabilities, labels, labels.mean())
    assert list(weighted) == list(measured)
    for name, metric in weighted.items():
        assert measured[name].value == pytest.approx(metric.value), name
        assert measured[name].higher_is_better == metric.higher_is_better


def test_numbers_are_those_of_the_stated_prevalence():
    labels = np.array([1] * 10 + [0] * 90)
    probabilities = np.where(np.arange(100) < 8, 0.9, 0.1)
    probabilities[-9:] = 0.9  # 8 of 10 spam and 9 of 90 ham
    measured = calibration.metrics_at(0.5, probabilities, labels, 0.01)
    assert list(measured) == ["f1", "precision", "recall", "mcc", "accuracy", "false_positive_rate", "log_loss", "ece"]
    assert measured["precision"].value == pytest.approx(0.01 * 0.8 / (0.01 * 0.8 + 0.99 * 0.1))
    assert measured["recall"].value == 0.8 and measured["false_positive_rate"].value == 0.1
    weights = np.where(labels == 1, 0.01 / 10, 0.99 / 90)
    shares = {0.1: (0.01 * 0.2, 0.99 * 0.9), 0.9: (0.01 * 0.8, 0.99 * 0.1)}  # spam and ham among each probability
    expected = sum(abs(p * (spam + ham) - spam) for p, (spam, ham) in shares.items())
    assert measured["ece"].value == pytest.approx(expected)
    losses = -np.log(np.where(labels == 1, probabilities, 1 - probabilities))
    assert measured["log_loss"].value == pytest.approx((weights * losses).sum())
    for name, score in {"f1": f1_score, "mcc": matthews_corrcoef, "accuracy": accuracy_score}.items():
        expected = score(labels, probabilities > 0.5, sample_weight=weights)
        assert measured[name].value == pytest.approx(expected), name
    for name in ("f1", "precision", "recall", "mcc", "accuracy", "false_positive_rate"):
        low, high = measured[name].interval
        assert low < measured[name].value < high
    assert calibration.metrics_at(0.95, probabilities, labels, 0.01)["precision"].value == 0


def test_no_mistake_among_few_messages_is_no_certainty():
    labels = np.array([1] * 150 + [0] * 966)
    for name, metric in calibration.metrics_at(0.5, labels * 0.9, labels, 0.13).items():
        if name not in ("ece", "log_loss"):
            worse, best = metric.interval if metric.higher_is_better else metric.interval[::-1]
            assert best == metric.value == float(metric.higher_is_better) and 0.0005 < abs(worse - best) < 0.03, name


def test_precision_intervals_hold_the_truth_as_often_as_they_should():
    rng, labels = np.random.default_rng(0), np.array([1] * 150 + [0] * 966)
    truth = 0.13 * 0.95 / (0.13 * 0.95 + 0.87 * 0.004)
    held = []
    for _ in range(200):
        said = rng.random(len(labels)) < np.where(labels == 1, 0.95, 0.004)
        low, high = calibration.metrics_at(0.5, said * 0.9, labels, 0.13)["precision"].interval
        held.append(low <= truth <= high)
    assert np.mean(held) > 0.91


@pytest.fixture
def run(spam_runs, tmp_path):
    return shutil.copytree(spam_runs["1"], tmp_path / "run")


def calibrate(*words) -> Calibration:
    """Runs the command and reads what it has kept."""
    run_command("calibrate", *words)
    return Calibration.of(GPTScratchConfig.from_pretrained(words[0]))


def options(run, data, *more) -> list[str]:
    return [str(run), "--data_file", str(data), *more]


def test_the_command_keeps_it_in_the_config_and_classify_applies_it(run, spam_messages, capsys):
    found = calibrate(*options(run, spam_messages, "--precision", "0.6", "--prevalence", "0.2"))
    printed = capsys.readouterr().out
    config = json.loads((run / "config.json").read_text())
    kept = {"temperature": found.temperature, "shift": found.shift, "threshold": found.threshold, "early": found.early}
    assert config["calibration"] == {**kept, "precision": 0.6, "prevalence": 0.2}
    assert config["architectures"] == ["GPTScratchForSequenceClassification"]

    classifier = TextClassifier.from_pretrained(run)
    test = split(load_messages(spam_messages), "grouped", 1)["test"]
    expected = expit(log_odds(classifier, test["text"]) / found.temperature + found.shift)
    predictions = list(classifier.classify(test["text"]))
    assert [prediction.probability for prediction in predictions] == pytest.approx(expected, abs=1e-5)
    assert [prediction.label for prediction in predictions] == [LABELS[int(p > found.threshold)] for p in expected]
    assert classifier.word_probabilities(test["text"][0])[-1][1] == pytest.approx(expected[0], abs=1e-5)

    card = read_card(run / "results" / "calibration.json")
    labels = np.array(test["label"])
    assert card.metrics["recall"].value == (expected > found.threshold)[labels == 1].mean()
    assert card.baselines["as trained"]["recall"].value != card.metrics["recall"].value
    assert list(card.metrics)[0] == "f1" and card.metrics.keys() == card.baselines["as trained"].keys()
    counted = json.loads((run / "metrics.json").read_text())["recall"]
    assert card.baselines["as trained"]["recall"].value == pytest.approx(counted)
    assert card.predictions == "predictions.csv" and card.seeds == [1]
    assert "fitted on the 48 messages of the validation set" in card.protocol
    assert f"threshold {found.threshold:.4f}" in printed and (run / "plots" / "calibration.png").stat().st_size > 5000


def test_the_messages_are_those_that_the_run_read(run, spam_messages):
    found = calibrate(str(run), "--precision", "0.6", "--prevalence", "0.2")
    assert found == calibrate(*options(run, spam_messages, "--precision", "0.6", "--prevalence", "0.2"))
    card = read_card(run / "results" / "calibration.json")
    assert "; for a precision of at least 0.6" in card.protocol and card.data[0]["source"] == spam_messages.name
    with pytest.raises(InputError, match="There is no folder"):
        calibrate(str(run / "none"))


def test_the_messages_are_found_again_beside_the_run_or_asked_for(run, spam_messages, tmp_path):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["source"] == spam_messages.name and str(tmp_path) not in json.dumps(metrics["data"])
    older = metrics | {"data": {"source": str(spam_messages), "sha256": metrics["data"]["sha256"]}}
    (run / "metrics.json").write_text(json.dumps(older))
    calibrate(str(run))
    moved = metrics | {"data": metrics["data"] | {"file": "../gone.tsv"}}
    quoted = tmp_path / "my messages.tsv"
    shutil.copy(spam_messages, quoted)
    for typed in (
        f"--data_file {spam_messages}",
        f"--data-file={spam_messages}",
        f"--data_file {shlex.quote(str(quoted))}",
    ):
        (run / "metrics.json").write_text(json.dumps(moved | {"command": f"train {typed}"}))
        calibrate(str(run))
    (run / "metrics.json").write_text(json.dumps(moved | {"command": "train cpu_small"}))
    with pytest.raises(InputError, match="are not at .*gone.tsv any more; give --data_file"):
        calibrate(str(run))


def test_a_language_model_is_sent_to_the_command_that_measures_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPTScratchForCausalLM"]}))
    for words in (["calibrate", tmp_path], ["benchmark", tmp_path, tmp_path]):
        with pytest.raises(InputError, match="holds a language model.* `hf-gpt-scratch evaluate .* --tasks wikitext`"):
            run_command(*map(str, words))


def test_a_repository_is_not_enough():
    for words in (["calibrate", "user/spam"], ["benchmark", "user/spam-1", "user/spam-2"]):
        reason = f"{words[0]} needs a local folder, since it needs metrics.json, which is never pushed"
        with pytest.raises(InputError, match=reason):
            run_command(*words)


def test_a_promise_for_another_share_of_spam_holds_on_other_messages():
    rng, broken = np.random.default_rng(0), 0

    def draw(share: float, n: int):
        labels = (rng.random(n) < share).astype(int)
        return rng.normal(np.where(labels == 1, 2.5, -2.5), 1.5), labels

    for _ in range(40):
        fitted, promised = calibration.fit(*draw(0.5, 1000), prevalence=0.1, precision=0.8)
        scores, labels = draw(0.1, 100_000)
        said = fitted.of_log_odds(torch.from_numpy(scores)).numpy() > fitted.threshold
        broken += labels[said].mean() < 0.8 <= promised
    assert broken <= 4 and fitted.shift == pytest.approx(np.log(0.1 / 0.9), abs=0.2)


def test_it_is_measured_from_the_logits_however_often_it_is_fitted(run, spam_messages):
    first = calibrate(*options(run, spam_messages))
    assert calibrate(*options(run, spam_messages)) == first and first.threshold == 0.5


def test_a_classifier_without_calibration_is_left_as_it_is(spam_runs):
    classifier = TextClassifier.from_pretrained(spam_runs["1"])
    scores = log_odds(classifier, ["You have won a prize", "see you at home"])
    predictions = list(classifier.classify(["You have won a prize", "see you at home"]))
    assert [prediction.probability for prediction in predictions] == pytest.approx(expit(scores), abs=1e-5)


@pytest.mark.parametrize("failing", ["evaluation.plots.plot_reliability", "utils.result_card.ResultCard.write"])
def test_the_model_is_as_before_when_not_all_can_be_written(run, spam_messages, monkeypatch, failing):
    def fail(*_):
        raise OSError("the disk is full")

    config = (run / "config.json").read_bytes()
    monkeypatch.setattr(f"hf_gpt_scratch.{failing}", fail)
    with pytest.raises(OSError, match="the disk is full"):
        calibrate(*options(run, spam_messages))
    assert (run / "config.json").read_bytes() == config and not (run / "results" / "calibration.json").exists()


def test_values_that_are_no_numbers_are_told_in_words(run, spam_messages, capsys):
    for value, message in {"two": "must be a number, not 'two'", "2": "must be above 0 and at most 1, not 2"}.items():
        with pytest.raises(SystemExit):
            calibrate(*options(run, spam_messages, "--precision", value))
        assert f"argument --precision: {message}" in capsys.readouterr().err


def test_what_cannot_be_calibrated_is_refused_and_nothing_changed(run, spam_messages, tmp_path):
    config = (run / "config.json").read_bytes()
    with pytest.raises(UsageError, match="below 1"):
        calibrate(*options(run, spam_messages, "--precision", "1"))
    with pytest.raises(InputError, match="cannot be promised.*Try `hf-gpt-scratch calibrate ") as refusal:
        calibrate(*options(run, spam_messages, "--precision", "0.9999", "--prevalence", "0.3"))
    instead = shlex.split(re.search("`hf-gpt-scratch calibrate (.*)`", str(refusal.value))[1])
    assert instead[:5] == [*options(run, spam_messages), "--prevalence", "0.3"]
    calibrate(*instead)  # what is offered can be kept
    (run / "results" / "calibration.json").unlink()
    (run / "config.json").write_bytes(config)
    others = tmp_path / "others.tsv"
    others.write_text("\n".join(spam_messages.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(InputError, match="trained on other messages than those of .*others.tsv"):
        calibrate(*options(run, others))
    with pytest.raises(
        InputError, match="no metrics.json that says how .* give an output folder of `hf-gpt-scratch train spam`"
    ):
        calibrate(*options(tmp_path, spam_messages))
    assert (run / "config.json").read_bytes() == config and not (run / "results" / "calibration.json").exists()
