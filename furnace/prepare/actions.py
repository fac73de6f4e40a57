"""What `python -m furnace prepare` does once its arguments are read: it makes a folder, draws lists or checks files.

Each action takes the options that `command.py` declares, prints what it did and returns the exit status.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from furnace.engine.bars import bar
from furnace.engine.files import json_text, require_writable, sha256, write_text
from furnace.engine.machine import cores
from furnace.errors import InputError, say_note
from furnace.prepare.build import Building
from furnace.prepare.check import check, dataset_of
from furnace.prepare.lists import images_that_show_every_class, write_splits
from furnace.prepare.official import plan_camvid, plan_city, plan_voc
from furnace.prepare.own import classes_in, plan_folder, state_of
from furnace.prepare.pairing import OwnData
from furnace.prepare.plan import Plan
from furnace.prepare.sources import Unpack

EXIT_PROBLEMS = 1  # of a check that found something wrong
NOT_REQUESTED = ("run", "workers", "folder")  # options that do not change what the folder will hold
Step = TypeVar("Step")


def make_folder(options: argparse.Namespace) -> int:
    """Makes a data set's folder from a download or from own data."""
    sources = [path.absolute() for path in (options.source, getattr(options, "sbd", None)) if path]
    if getattr(options, "classes", ()) is None:
        options.classes = classes_in(sources[0])  # named in the request, which is another if the file changes
    state = state_of(sources[0]) if options.kind == "folder" else None
    building = Building(options.folder.absolute(), sources, _request(options), state)
    if building.is_complete():
        print(f"nothing to do: {options.folder} is complete")
        return 0
    with building:
        plan = _plan(options, sources[0], lambda tar: building.unpack(tar, _bytes_bar))
        for note in plan.notes:
            say_note(note)
        _warn(plan.warnings)
        lists, warnings = building.finish(
            plan, options.files, options.ratios, options.seed, _processes(options), _images_bar
        )
    _warn(warnings)
    print(f"{options.folder}: {len(plan.train):,} training and {len(plan.val):,} validation images", end="")
    print(f", {len(plan.extra):,} without masks" if plan.extra else "")
    for name, entry in lists.items():
        print(f"  {entry['entries']:>10,}  sha256 {entry['sha256'][:12]}  {name}")
    if (all_labelled := plan.dataset.labeled_list.format(ratio=1)) in lists:
        settings = "labeled_ratio=1" if plan.extra else "labeled_ratio=1 method=supervised"
        print(f"{all_labelled} labels all {len(plan.train):,} training images with masks: train with {settings}")
    print(f"open every file, to see that all is well: python -m furnace prepare check {options.folder}")
    return 0


def draw_lists(options: argparse.Namespace) -> int:
    """Draws labelled and unlabelled lists from a data set's training list."""
    folder, lists = options.folder.absolute(), (options.lists or options.folder).absolute()
    dataset = dataset_of(folder)
    first: list[int] = []
    if options.every_class:
        first = images_that_show_every_class(dataset, folder, options.seed, _processes(options), _images_bar)
    for path, count, digest in write_splits(
        dataset, folder, lists, options.ratio, options.seed, first, options.replace
    ):
        print(f"  {count:>10,}  sha256 {digest[:12]}  {path}")
    return 0


def check_files(options: argparse.Namespace) -> int:
    """Opens every file that a data set's lists name, and shows what was found as a table or as JSON."""
    from furnace.prepare.check_report import as_json, as_text  # pandas takes long to import; only this action needs it

    folder, lists = options.folder.absolute(), (options.lists or options.folder).absolute()
    if options.json not in (None, Path("-")):
        require_writable(options.json.absolute().parent)
        if options.json.is_dir():
            raise InputError(f"--json: {options.json} is a folder; name a file, or - for the terminal")
    report = check(dataset_of(folder), folder, lists, _processes(options), _images_bar)
    if options.json == Path("-"):
        print(json.dumps(as_json(report), indent=2))  # in ASCII, because a terminal may have any encoding
    else:
        print(as_text(report))
        if options.json:
            write_text(options.json, json_text(as_json(report)))
    return EXIT_PROBLEMS if report.problems else 0


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _plan(options: argparse.Namespace, source: Path, unpack: Unpack) -> Plan:
    match options.kind:
        case "voc":
            return plan_voc(source, options.sbd, unpack)
        case "city":
            return plan_city(source, unpack)
        case "camvid":
            return plan_camvid(source, unpack)
    own = OwnData(
        images=options.images,
        masks=options.masks,
        image_ending=options.image_ending,
        mask_ending=options.mask_ending,
        classes=options.classes,
        ignored=options.ignore,
        val=options.val,
        seed=options.seed,
    )
    return plan_folder(source, options.folder.absolute().name, own, unpack)


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """The options that decide what the folder will hold, as JSON holds them, with absolute paths.

    The digest of the classes file is among them, because masks that were made by an earlier version of that file mean
    something else.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value.absolute())
        return list(value) if isinstance(value, tuple) else value

    request = {name: plain(value) for name, value in vars(options).items() if name not in NOT_REQUESTED}
    if isinstance(request.get("classes"), str):
        with suppress(OSError):  # read_classes will say what is wrong with the file
            request["classes_sha256"] = sha256(options.classes)
    return request


def _processes(options: argparse.Namespace) -> int:
    return options.workers or cores()


def _images_bar(steps: Iterable[Step], total: int) -> Iterable[Step]:
    return bar(steps, total=total, unit="image")


@contextmanager
def _bytes_bar(file: Path) -> Iterator[Callable[[int], None]]:
    """Shows a bar for reading `file`; the function it gives takes how many bytes of the file are read."""
    size = file.stat().st_size
    with bar(total=size, desc=f"unpacking {file.name}", unit="B", unit_scale=True) as shown:

        def hear(place: int) -> None:
            shown.update(place - shown.n)

        yield hear
