"""Shows what runs of the study say of photographs that they never saw: docs/images/photographs.jpg.

    python -m tests.bench.study.picture msrc21 --to docs/images/photographs.jpg --images 5_3_s 7_1_s \\
        --runs "supervised=output_study/msrc21_16_SUP" "Ensemble Teacher=output_study/msrc21_16_EMA"

A row is a photograph of the validation list, its truth, and the labels that each run's evaluation left in `results`.
Where the truth has no label, the labels of the runs are shown nonetheless.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from furnace.config.experiment import read_experiment
from furnace.data.entries import Split
from furnace.data.images import read_label
from furnace.errors import EXIT_BAD_INPUT, InputError, say
from furnace.evaluation.pictures import picture_names
from furnace.pictures import colourize, panel
from tests.bench.study.plan import FOLDER, TITLES


def rows(split: Split, images: Sequence[str], runs: Mapping[str, Path]) -> Iterator[list[np.ndarray]]:
    """Yields the pictures of each image: itself, its truth, and a run's labels each.

    Raises:
        InputError: the list has no such image, or a run has left no labels for it.
    """
    names, dataset = picture_names(split), split.dataset
    for image in images:
        if image not in names:
            raise InputError(f"--images: expected names of {split.files.path}, found {image!r}")
        number = names.index(image)
        results = [folder / f"results/{image}.png" for folder in runs.values()]
        labels = [split.label(number), *(read_label(path, dataset.num_classes) for path in results)]
        yield [split.image(number), *(colourize(label, dataset.palette) for label in labels)]


def main() -> int:
    """Does what the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=TITLES)
    parser.add_argument("--images", nargs="+", required=True, metavar="NAME", help="names without their ending")
    parser.add_argument("--runs", nargs="+", required=True, metavar="CAPTION=FOLDER")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    runs = {caption: Path(folder) for caption, _, folder in (run.partition("=") for run in options.runs)}
    try:
        split = read_experiment(FOLDER / options.data, {}).split("val")
        picture = panel(list(rows(split, options.images, runs)), ["photograph", "truth", *runs])
        file, quality = str(options.to), [cv2.IMWRITE_JPEG_QUALITY, 85]
        if not (cv2.haveImageWriter(file) and cv2.imwrite(file, picture[..., ::-1], quality)):
            raise InputError(f"--to: expected a .jpg or .png in a folder that is there, found {file}")
    except InputError as error:
        say(error)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
