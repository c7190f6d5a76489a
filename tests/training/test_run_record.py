"""What a run says beforehand that it will delete is what it deletes."""

from types import SimpleNamespace

from hf_gpt_scratch.model_folder.saving import replace_model
from hf_gpt_scratch.training.run_record import Run
from hf_gpt_scratch.utils.result_card import Metric, ResultCard


def test_what_is_announced_is_what_is_deleted(tmp_path, capsys):
    out, new = tmp_path / "out", tmp_path / "new"
    new.mkdir()
    card = ResultCard(
        "a task", "a protocol", [{"source": "a file", "sha256": "ab"}], {"x": Metric(1.0)}, "a command", {}
    )
    card.write(out, "spam")
    (out / "results" / "mine.json").write_text("[1, 2]")  # no result card
    (out / "metrics.json").write_text("{}")
    Run.warn_of_deletions(SimpleNamespace(output_dir=out, training_args=SimpleNamespace(process_index=0)))
    assert "in its place, metrics.json, results/spam.json will be deleted" in capsys.readouterr().err
    assert replace_model(new, out) == ["metrics.json", "results/spam.json"]
    assert [path.name for path in (out / "results").iterdir()] == ["mine.json"]
