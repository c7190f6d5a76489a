"""
Writes the tables of results in the README and docs/results.md from result cards, so that no number in them is typed.

    python training/results.py runs/spam_benchmark runs/verdict ...    # takes the runs' cards first
    python training/results.py                                         # the tables alone

The cards are kept in training/results/, as RUN.CARD.json and without the folders of the machine. In a page a table
stands between `<!-- results: RUN.CARD ... | the name of the model's row | the columns, all without them -->` and
`<!-- end of results -->`; with several cards, a row's name begins with its run's, and the best of a column is bold
among the rows of one task, protocol and data alone.
"""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "training" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
TABLE = re.compile(
    r"(<!-- results: ([\w. -]+) \| ([^|>]+?)(?: \| ([^|>]+?))? -->\n).*?(<!-- end of results -->)", re.S
)


def take_cards(run: Path) -> None:
    """Copies the result cards of a run's folder, without the folders of the machine in them."""
    from hf_gpt_scratch.hub.secrets import public_command, public_source, public_text
    from hf_gpt_scratch.utils.result_card import read_cards

    CARDS.mkdir(exist_ok=True)
    for name, card in read_cards(run).items():
        data = [{**record, "source": public_source(record["source"])} for record in card.data]
        command, protocol = public_command(card.command), public_text(card.protocol)
        replace(card, data=data, command=command, protocol=protocol).write_to(CARDS / f"{run.name}.{name}.json")


def tables(text: str) -> str:
    """
    A text with its tables written anew.

    Raises:
        InputError: when one names a card or a column that is not there.
    """
    from hf_gpt_scratch.utils.errors import InputError
    from hf_gpt_scratch.utils.markdown import markdown_table
    from hf_gpt_scratch.utils.result_card import read_card

    def table(match: re.Match) -> str:
        begin, names, label, columns, end = match.groups()
        cards = {name: read_card(CARDS / f"{name}.json") for name in names.split()}
        rows, groups = {}, {}
        for name, card in cards.items():
            before = f"{name.partition('.')[0]}: " if len(cards) > 1 else ""
            added = {before + row: metrics for row, metrics in {label: card.metrics, **card.baselines}.items()}
            if added.keys() & rows.keys():
                raise InputError(f"Two of the cards {names} are of the same run: name one of them.")
            rows |= added
            groups |= dict.fromkeys(added, (card.task, card.protocol, str(card.data)))
        known = list(dict.fromkeys(name for metrics in rows.values() for name in metrics))
        wanted = columns.split() if columns else known
        if unknown := set(wanted) - set(known):
            raise InputError(f"No card of {names} has {', '.join(sorted(unknown))}; they have {', '.join(known)}.")
        chosen = {row: {name: metrics[name] for name in wanted if name in metrics} for row, metrics in rows.items()}
        return f"{begin}\n{markdown_table(chosen, groups)}\n\n{end}"

    return TABLE.sub(table, text)


def main(argv: list[str] | None = None) -> None:
    from hf_gpt_scratch.utils.files import write_whole

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="folders with results/*.json to take first")
    for run in parser.parse_args(argv).runs:
        take_cards(run)
    for page in PAGES:
        write_whole(page, tables(page.read_text(encoding="utf-8")))
    print(f"The tables in {' and '.join(str(page.relative_to(ROOT)) for page in PAGES)} are those of the cards.")


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
