"""The process of `starve`: it imports torch once, and each try is a fork of it, on a small disk of its own."""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import forks
import starve_faults
import starve_servers
from faults import Row, Settings
from forks import Ended, Fork
from starve_faults import Fault, Place, Whole, complaint, falls_short, remains, snapshot
from starve_subjects import SUBJECTS, Subject, make_inputs

from support.judge_server import judge_server, number_in_response
from support.stand_in import hub_stand_in

TRIES, QUICK = 8, 2  # of the room of a disk
LONGEST = 90  # seconds of a try, or ten times as many as it takes on a machine as busy as this; then it hangs
MODULES = ("hf_gpt_scratch.training.classify", "hf_gpt_scratch.hub.push", "hf_gpt_scratch.conversion.export")


def main() -> int:
    told = json.loads(sys.argv[1])
    has_disks = told.pop("disks")
    settings = Settings(**{**told, "folder": Path(told["folder"]), "subjects": tuple(told["subjects"])})
    with hub_stand_in() as hub, judge_server(number_in_response) as judge:
        os.environ |= hub.environment(settings.folder / "home")
        os.environ.pop("HF_HUB_OFFLINE", None)
        os.environ["NO_PROXY"] = "127.0.0.1"
        wanted = [one for one in SUBJECTS if settings.of(one.name)]
        forks.warm_up(*MODULES, *(module for one in wanted for module in one.modules))
        if wanted:
            bench = Bench(settings, judge.url, has_disks)
            for subject in wanted:
                tell(bench.starved(subject))
        for row in starve_servers.rows(settings):
            tell(row)
    return 0


def tell(row: Row) -> None:
    print(f"row {json.dumps(asdict(row))}", flush=True)


class Bench:
    """The inputs, and the tries of each subject."""

    def __init__(self, settings: Settings, judge: str, has_disks: bool):
        self.settings, self.has_disks, self.number = settings, has_disks, 0
        self.longest = 10 * LONGEST
        self.inputs = settings.folder / "inputs"
        self.inputs.mkdir()
        (self.inputs / "judge.url").write_text(judge)
        make_inputs(self.inputs, self.make)

    def make(self, words: Sequence, folder: Path) -> None:
        ended = Fork(partial(run_words, words), folder, self.settings.folder / "made.log").end()
        if ended.status:
            raise RuntimeError(f"{words} fails by itself:\n{ended.said[-3000:]}")

    def place(self) -> Place:
        """New folders for a try."""
        self.number += 1
        top = self.settings.folder / f"try-{self.number}"
        for name in ("work", "tmp"):
            (top / name).mkdir(parents=True)
        return Place(top / "work", top / "tmp", self.settings.folder / "home")

    def prepare(self, subject: Subject, place: Place) -> None:
        for name in subject.old:
            source = self.inputs / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place.folder / name)

    def run(self, subject: Subject, place: Place, fault: Fault | None = None) -> Ended:
        """The command, from which the fault has taken something."""

        def run() -> int | None:
            subject.within()
            if fault:
                fault.within(place)
            return run_words(subject.words(self.inputs))

        return Fork(run, place.folder, place.folder.parent / "log").end(self.longest)

    def whole(self, subject: Subject) -> tuple[dict[str, int], Whole]:
        """What a run that lacks nothing takes, and leaves."""
        self.longest, all_left = 10 * LONGEST, []
        for _ in range(2):  # the first imports what is imported late
            place = self.place()
            self.prepare(subject, place)
            before = snapshot(place.folder)
            ended = self.run(subject, place)
            if ended.status:
                raise RuntimeError(f"{subject.name} fails by itself:\n{ended.said[-3000:]}")
            all_left.append(snapshot(place.folder))
            shutil.rmtree(place.folder.parent)
        self.longest = max(LONGEST, 10 * ended.seconds)
        left = all_left[-1]
        sizes = [len(content or b"") for name, content in left.items() if content != before.get(name)]
        pages = sum(-(-size // starve_faults.full_disk.PAGE) for size in sizes)
        needed = {
            "room": pages * starve_faults.full_disk.PAGE,
            "inodes": len(sizes),
            "file size": max(sizes, default=0),
        }
        return needed, Whole(left, {name for name, content in left.items() if all_left[0].get(name) == content})

    def starved(self, subject: Subject) -> Row:
        """The row of a subject: every fault, tried."""
        needed, whole = self.whole(subject)
        tries = self.settings.tries or (QUICK if self.settings.quick else TRIES)
        bad, well, counts = [], 0, Counter()
        for fault in starve_faults.faults(needed, tries, self.has_disks, subject.writes):
            counts[fault.name] += 1
            wrong, is_well = self.attempt(subject, fault, whole)
            well += is_well
            if wrong:
                bad.append(wrong)
                print(f"  {subject.name}: {fault.name} {fault.amount or ''}: {wrong}", flush=True)
        lost = sum(wrong.startswith(("changed", "left", "wrote")) for wrong in bad)
        note = ", ".join(f"{name} {count}" for name, count in counts.items()) + f"; {well} ended well"
        tried = sum(counts.values())
        return Row(
            "starved",
            subject.name,
            tried,
            tried - len(bad),
            lost,
            note=f"{note}{'; ' if bad else ''}{'; '.join(bad[:1])}",
        )

    def attempt(self, subject: Subject, fault: Fault, whole: Whole) -> tuple[str | None, bool]:
        """What is wrong after a try, and whether it ended as if it had lacked nothing."""
        place = self.place()
        with fault.disk(place) as disk:
            self.prepare(subject, place)
            before = snapshot(place.folder)
            if fault.kind == "permission":
                forbid(place.folder)
            fault.before(disk)
            ended = self.run(subject, place, fault)
            if disk:
                disk.free()
            permit(place.folder)
            after = snapshot(place.folder)
            if ended.status == 0:
                wrong = falls_short(after, whole)
            else:
                wrong = complaint(ended.status, ended.said, names_of(fault, place, whole.left, subject))
                wrong = wrong or remains(before, after, whole.left, subject)
                if not wrong:
                    again = self.run(subject, place)
                    wrong = f"left what cannot be continued: {again.last_line[:300]}" if again.status else None
            left = [path.name for path in place.tmp.iterdir() if not path.name.startswith(starve_faults.OF_OTHERS)]
            wrong = wrong or (f"left {', '.join(left[:4])} in the folder for temporary files" if left else None)
        shutil.rmtree(place.folder.parent)
        return wrong, ended.status == 0


def run_words(words: Sequence) -> int | None:
    from hf_gpt_scratch import cli

    try:
        return cli.main([str(word) for word in words])
    finally:  # what is done when a process ends, which that of a fork does not do by itself
        if page := sys.modules.get("hf_gpt_scratch.apps.page"):
            page.clean()


def forbid(folder: Path) -> None:
    """Nothing in the folder may be written."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)


def permit(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def names_of(fault: Fault, place: Place, whole: starve_faults.Snapshot, subject: Subject) -> list[str]:
    """What a sentence may name: where the room was missing."""
    if fault.kind == "memory":
        return []
    at = getattr(place, fault.at or "folder")
    here = [*{name.split("/")[0] for name in whole}, *([subject.keeps] if subject.keeps else ())]
    if fault.kind == "file size":  # which holds everywhere
        return [str(at), str(place.tmp), str(place.home), *here]
    return [str(at), *(here if at == place.folder else ())]


if __name__ == "__main__":
    sys.exit(main())
