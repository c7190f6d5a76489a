"""Tables of labelled texts, as the tests write them."""

import csv
from pathlib import Path

ROWS = [("my bill", "billing"), ("the price", "billing"), ("where is it", "delivery"), ("a parcel", "delivery")]


def write(path: Path, rows, header=("text", "label"), delimiter=",") -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    return path


def word(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def pairs(labels: int = 3, each: int = 40) -> list[tuple[str, str]]:
    """Rows of several labels; the texts come in pairs of near-copies."""
    return [
        (text, f"topic {word(label)}")
        for label in range(labels)
        for i in range(each // 2)
        for text in (f"{word(label)} about {word(i)} 1", f"{word(label)} ABOUT {word(i)}! 2")
    ]
