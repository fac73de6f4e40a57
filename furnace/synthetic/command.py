"""The command `python -m furnace demo-data`."""

import argparse
from collections.abc import Sequence
from functools import partial

from furnace.errors import InputError, because


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `demo-data` to the commands."""
    demo = commands.add_parser(
        "demo-data",
        help="make a small data set of toy images",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python -m furnace demo-data DATA/demo --images 250 --seed 0\n"
        "          python -m furnace demo-data DATA/demo_city --layout city",
    )
    demo.add_argument("folder")
    demo.add_argument(
        "--layout",
        choices=("voc", "city"),
        default="voc",
        help="voc: objects of 5 classes, as in DATA/pascal_voc (default); city: streets of 19 classes, as in DATA/city",
    )
    demo.add_argument("--images", type=int, default=250, help="training and validation images together (default 250)")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo_data)


def _demo_data(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.engine.bars import bar
    from furnace.synthetic.layout import write_city_layout, write_voc_layout

    write = {"voc": write_voc_layout, "city": write_city_layout}[options.layout]
    try:
        write(options.folder, images=options.images, seed=options.seed, progress=partial(bar, unit="image"))
    except OSError as error:
        raise InputError(f"cannot write {options.folder}: {because(error)}") from error
    return 0
