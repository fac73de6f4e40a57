"""Writes this experiment's lists from DATA/camvid: `image<TAB>label` for labelled images, the image alone for others.

python make_lists.py [CAMVID FOLDER]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from furnace.data.splits import draw_split
from furnace.engine.files import write_text

SEED = 0
RATIOS = (16, 8, 4, 2)


def entries(camvid: Path, part: str) -> list[str]:
    """Every image of `part` with its label, below the data set's folder."""
    names = sorted(path.stem for path in (camvid / part / "images").glob("*.jpg"))
    return [f"/{part}/images/{name}.jpg\t/{part}/labels/{name}.png" for name in names]


def write_lists(camvid: Path, folder: Path) -> None:
    train = entries(camvid, "train")
    write_text(folder / "val.txt", "\n".join(entries(camvid, "val")) + "\n")
    for ratio in RATIOS:
        labeled, unlabeled = draw_split(train, ratio, SEED)
        images = [line.split("\t")[0] for line in unlabeled]
        write_text(folder / f"labeled_1-{ratio}.txt", "\n".join(labeled) + "\n")
        write_text(folder / f"unlabeled_1-{ratio}.txt", "\n".join(images) + "\n")


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    write_lists(Path(sys.argv[1]) if len(sys.argv) > 1 else here / "../../DATA/camvid", here / "lists")
