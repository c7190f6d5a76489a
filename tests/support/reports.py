"""Result cards of runs, and the report that compares them."""

import json

from hf_gpt_scratch.utils.result_card import Metric, ResultCard
from support.commands import run_command

ENVIRONMENT = {
    "python": "3.12.1",
    "versions": {"torch": "2.9.0", "transformers": "5.23.0"},
    "hardware": {"machine": "x86_64", "cpu": "A CPU", "cores": 2},
}
LINEAR = {"f1": Metric(0.9559, [0.93, 0.97]), "perplexity": Metric(663.0, higher_is_better=False)}


def write_card(run, name="test", **changes) -> None:
    values = {
        "task": "SMS spam classification",
        "protocol": "grouped split",
        "data": [{"source": "sms.zip", "sha256": "0123456789abcdef" * 4}],
        "metrics": {"f1": Metric(0.9424, [0.912, 0.968])},
        "command": "python train.py",
        "environment": ENVIRONMENT,
        "seeds": [1],
    }
    ResultCard(**values | changes).write(run, name)


def compare(*runs, out) -> tuple[str, dict]:
    """The text of report.md and the content of report.json."""
    run_command("report", *runs, "--output_dir", out)
    return (out / "report.md").read_text(encoding="utf-8"), json.loads((out / "report.json").read_text())
