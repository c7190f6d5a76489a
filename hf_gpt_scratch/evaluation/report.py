"""
Runs side by side: one table and one picture for each set of result cards that can be compared.

    hf-gpt-scratch report runs/spam runs/spam-lora --output_dir runs/report

`report.md` is for people. `report.json` holds the same for programs: a list `groups`, each with task, protocol,
data_sha256, picture, metrics (the columns: name, higher_is_better), rows (name, metrics: those measured, is_baseline,
runs) and runs (by their rows' names: folder, name and content of the card).
"""

import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from ..utils.console import run_command
from ..utils.errors import InputError
from ..utils.files import read_json_object, together, write_json, write_whole
from ..utils.markdown import DIFFERENCE, MISSING, REFERENCE, escape, is_reference, markdown_table, metric_columns
from ..utils.provenance import public_name, shown_path
from ..utils.result_card import Metric, ResultCard, identity, read_cards
from ..utils.terminal import plain

VERSION = 1
MOST_PANELS = 4
PICTURE = re.compile(r"[a-z0-9-]+\.png")
KINDS = (("run", "#0072B2", "o"), ("baseline", "#D55E00", "s"))  # with the colour and marker of a picture


@dataclass(frozen=True)
class Entry:
    """A card and where it was found."""

    folder: str
    name: str
    card: ResultCard


@dataclass(frozen=True)
class Row:
    metrics: Mapping[str, Metric]
    runs: Sequence[str]
    is_baseline: bool


@dataclass(frozen=True)
class Group:
    """The cards of one task, protocol and data, by the names of their rows."""

    task: str
    protocol: str
    hashes: tuple[str, ...]
    entries: Mapping[str, Entry]

    @cached_property
    def rows(self) -> dict[str, Row]:
        """Of the runs and then the baselines; one row for all runs whose baseline has the same name and numbers."""
        variants: dict[str, dict[str, Row]] = {}
        for run, entry in self.entries.items():
            for name, metrics in entry.card.baselines.items():
                numbers = repr(sorted(metrics.items()))  # as NaN is not equal to NaN
                row = Row(metrics, [], is_baseline=True)
                variants.setdefault(name, {}).setdefault(numbers, row).runs.append(run)
        rows = {run: Row(entry.card.metrics, [run], is_baseline=False) for run, entry in self.entries.items()}
        for name, known in variants.items():
            for row in known.values():
                label = name if len(known) == 1 else f"{name} ({', '.join(row.runs)})"
                rows[_unused(label, rows, " (baseline)")] = row
        return rows

    @property
    def metrics(self) -> dict[str, Mapping[str, Metric]]:
        return {name: row.metrics for name, row in self.rows.items()}


def read_groups(runs: Iterable[str | os.PathLike]) -> list[Group]:
    """
    The cards of the runs' folders in the groups that can be compared, those of one task next to each other.

    Raises:
        InputError: when a folder has no card, a card is damaged, or cards disagree about which way a metric is better.
    """
    names = short_names(runs)
    grouped: dict[str, dict[tuple, list[tuple[str, Entry]]]] = {}
    for folder, run in names.items():
        for name, card in read_cards(folder).items():
            key = card.protocol, tuple(sorted(data.get("sha256") or identity(data) for data in card.data))
            grouped.setdefault(card.task, {}).setdefault(key, []).append((run, Entry(shown_path(folder), name, card)))
    groups = []
    for task, by_key in grouped.items():
        for (protocol, hashes), found in by_key.items():
            runs_found = [run for run, _ in found]
            entries: dict[str, Entry] = {}
            for run, entry in found:
                label = run if runs_found.count(run) == 1 else f"{run} ({entry.name})"
                entries[_unused(label, entries, " (again)")] = entry
            groups.append(Group(task, protocol, hashes, entries))
            metric_columns(groups[-1].metrics)
    return groups


def short_names(runs: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Each folder, once, with as many of its path's last parts as no other folder's path ends in."""
    folders = {os.path.abspath(run): os.path.normpath(run) for run in runs}
    parts = {folder: Path(folder if Path(folder).name.strip(".") else path).parts for path, folder in folders.items()}
    names = {}
    for folder, own in parts.items():
        others = [other for other in parts.values() if other != own]
        lengths = (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others))
        names[folder] = str(Path(*own[-next(lengths, len(own)) :]))
    return names


def _unused(label: str, taken: Mapping, suffix: str) -> str:
    while label in taken:
        label += suffix
    return label


def report_text(groups: Sequence[Group], pictures: Sequence[str]) -> str:
    """The report in Markdown, with the names of the groups' pictures."""
    lines = ["# Comparison of results", "", "Brackets hold 95 % intervals; the best of a column is bold.", ""]
    for task in dict.fromkeys(group.task for group in groups):
        tables = [(group, picture) for group, picture in zip(groups, pictures) if group.task == task]
        lines += [f"## {escape(task)}", ""]
        if len(tables) > 1:
            why = "since only those of the same protocol and data can be compared"
            lines += [f"These results are in {len(tables)} tables, {why}.", ""]
        for number, (group, picture) in enumerate(tables, start=1):
            if len(tables) > 1:
                lines += [f"### Table {number}", ""]
            if number > 1:
                others = [f"table {i} ({_difference(group, tables[i - 1][0])})" for i in range(1, number)]
                lines += [f"Not to be compared with {', '.join(others)}.", ""]
            lines += [markdown_table(group.metrics), "", f"![{escape(task)}]({picture})", ""]
            lines += [*_details(group), "", *_commands(group), ""]
    return "\n".join(lines)


def _difference(group: Group, other: Group) -> str:
    protocol = ["another protocol"] if group.protocol != other.protocol else []
    return " and ".join(protocol + (["other data"] if group.hashes != other.hashes else []))


def _details(group: Group) -> list[str]:
    """What is needed to trust the numbers, a line each."""
    cards = {run: entry.card for run, entry in group.entries.items()}
    baselines = [name for name, row in group.rows.items() if row.is_baseline]
    texts = {
        "Data": lambda card: ", ".join(f"{public_name(data['source'])} ({identity(data, 12)})" for data in card.data),
        "Seeds": lambda card: ", ".join(map(str, card.seeds)) or "not recorded",
        "Hardware": lambda card: _hardware(card.environment),
        "Versions": lambda card: _versions(card.environment),
    }
    lines = [f"- Baselines: {', '.join(map(escape, baselines)) or 'none'}", f"- Protocol: {escape(group.protocol)}"]
    return lines + [f"- {name}: {_by_run(cards, text)}" for name, text in texts.items()]


def _by_run(cards: Mapping[str, ResultCard], text: Callable[[ResultCard], str]) -> str:
    """The text of all cards where they agree, else each text with its runs."""
    runs: dict[str, list[str]] = {}
    for run, card in cards.items():
        runs.setdefault(text(card), []).append(run)
    if len(runs) == 1:
        return escape(*runs)
    return "; ".join(f"{escape(one)} ({', '.join(map(escape, names))})" for one, names in runs.items())


def _hardware(environment: Mapping) -> str:
    hardware = environment.get("hardware", {})
    forms = {"gpu": "{}", "cpu": "{}", "cores": "{} cores", "machine": "{}"}
    parts = [form.format(hardware[name]) for name, form in forms.items() if hardware.get(name)]
    return ", ".join(parts) or "not recorded"


def _versions(environment: Mapping) -> str:
    versions = {"Python": environment.get("python"), **environment.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version) or "not recorded"


def _commands(group: Group) -> list[str]:
    """A block of the runs' commands, within a fence that no command holds."""
    lines = [line for run, entry in group.entries.items() for line in (f"# {_one_line(run)}", entry.card.command)]
    longest = max((len(ticks) for line in lines for ticks in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *lines, fence]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def plot_group(group: Group, path: str | os.PathLike) -> None:
    """The first four metrics, a panel each, with a dot and its interval for each row; baselines in another colour."""
    from matplotlib.figure import Figure

    from .plots import save_figure

    columns = list(metric_columns(group.metrics).items())[:MOST_PANELS]
    labels = [textwrap.fill(_one_line(name), 36).replace("$", r"\$") for name in group.rows]
    height = 1.7 + sum(0.25 + 0.17 * (1 + label.count("\n")) for label in labels)
    figure = Figure(figsize=(3 + 2.8 * len(columns), height), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, (name, higher_is_better) in zip(panels, columns):
        _draw_panel(panel, [(row.metrics.get(name), row.is_baseline) for row in group.rows.values()], name)
        direction = "higher" if higher_is_better else "lower"
        title = textwrap.fill(_one_line(name), 26).replace("$", r"\$")
        panel.set_title(f"{title}\n({direction} is better)", fontsize=10)
    figure.suptitle(textwrap.fill(_one_line(group.task), 28 * len(columns) + 20).replace("$", r"\$"), fontsize=12)
    panels[0].set(ylim=(len(labels) - 0.5, -0.5), yticks=range(len(labels)))
    panels[0].set_yticklabels(labels, fontsize=9)
    if any(row.is_baseline for row in group.rows.values()):
        handles = [panels[0].plot([], [], marker, color=colour, label=kind)[0] for kind, colour, marker in KINDS]
        figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    save_figure(figure, path)


def _draw_panel(panel, column: Sequence[tuple[Metric | None, bool]], name: str) -> None:
    if DIFFERENCE in name:
        column = [(None if is_reference(name, metric) else metric, is_baseline) for metric, is_baseline in column]
        panel.axvline(0, color="0.45", linestyle=":")
    values = [value for metric, _ in column if metric for value in (metric.value, *(metric.interval or ()))]
    values = [value for value in values if math.isfinite(value)]
    if values and min(values) > 1 and max(values) / min(values) > 50:  # perplexities of a good and a random model
        panel.set_xscale("log")
    else:
        panel.locator_params(axis="x", nbins=4)
        panel.ticklabel_format(axis="x", useOffset=False)
    for y, (metric, is_baseline) in enumerate(column):
        _, colour, marker = KINDS[is_baseline]
        if metric is None or not math.isfinite(metric.value):
            where = {"transform": panel.get_yaxis_transform(), "ha": "center", "va": "center"}
            missing = REFERENCE if DIFFERENCE in name else MISSING
            panel.text(0.5, y, str(metric.value) if metric else missing, fontsize=8, color="0.4", **where)
            continue
        if metric.interval is not None and all(map(math.isfinite, metric.interval)):
            panel.plot(metric.interval, [y, y], "|-", color=colour, linewidth=1.5, markersize=7)
        panel.plot([metric.value], [y], marker, color=colour)
    panel.margins(x=0.1)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="x", alpha=0.3)


def report_values(groups: Sequence[Group], pictures: Sequence[str]) -> dict:
    """The report as report.json holds it; see the head of this file."""
    values = [
        {
            "task": group.task,
            "protocol": group.protocol,
            "data_sha256": group.hashes,
            "picture": picture,
            "metrics": [{"name": name, "higher_is_better": up} for name, up in metric_columns(group.metrics).items()],
            "rows": [{"name": name, **asdict(row)} for name, row in group.rows.items()],
            "runs": {run: asdict(entry) for run, entry in group.entries.items()},
        }
        for group, picture in zip(groups, pictures)
    ]
    return {"version": VERSION, "groups": values}


def write_report(groups: Sequence[Group], output_dir: str | os.PathLike) -> Path:
    """
    Writes the pictures, report.json and, last, report.md, and returns the path of the latter. Pictures of an earlier
    report that this one has not are deleted; other files stay.
    """
    output_dir = Path(output_dir)
    former = _former_pictures(output_dir)
    pictures: list[str] = []
    for group in groups:
        stem = re.sub("[^a-z0-9]+", "-", group.task.lower()).strip("-")[:60] or "task"
        name, number = f"{stem}.png", 1
        while name in pictures:
            number += 1
            name = f"{stem}-{number}.png"
        pictures.append(name)
    with together(output_dir) as partial:
        for group, name in zip(groups, pictures):
            plot_group(group, partial / name)
        write_json(partial / "report.json", report_values(groups, pictures))
        write_whole(partial / "report.md", plain(report_text(groups, pictures)))
    for name in former - set(pictures):
        (output_dir / name).unlink(missing_ok=True)
    return output_dir / "report.md"


def _former_pictures(output_dir: Path) -> set[str]:
    """The pictures of the report in a folder, by what its report.json says."""
    try:
        groups = read_json_object(output_dir / "report.json")["groups"]
        return {name for name in (group["picture"] for group in groups) if PICTURE.fullmatch(name)}
    except (InputError, KeyError, TypeError):
        return set()


if __name__ == "__main__":  # the command as older result cards have it
    run_command("report")
