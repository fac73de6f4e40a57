"""The masks of unlabelled images: a run must not see them, but a study may, where they are there."""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from furnace.config.experiment import Experiment
from furnace.data.entries import Split, columns
from furnace.errors import InputError


@dataclass(frozen=True)
class MaskedSplit(Split):
    """A list of images, with masks that lie where those of the labelled images lie, unless the list names them."""

    known: Split  # the labelled images, which have masks

    def label_path(self, index: int) -> Path:
        """Returns the path of the mask of entry `index`."""
        if len(columns(self.files[index])) == 2:
            return super().label_path(index)
        return mask_like(self.image_path(index), self.known.image_path(0), self.known.label_path(0))


def unlabeled_with_masks(experiment: Experiment) -> Split:
    """Returns the unlabelled list with its masks; raises InputError if one is missing."""
    split = experiment.split("unlabeled")
    masked = MaskedSplit(split.dataset, split.root, split.files, split.name, experiment.split("labeled"))
    try:
        masked.check_files(with_labels=True)
    except InputError as error:
        raise InputError(
            f"expected a mask for each unlabelled image, named as those of labelled images are: {error}"
        ) from None
    return masked


def mask_like(image: Path, known_image: Path, known_mask: Path) -> Path:
    """Returns where an image's mask is expected, if folders and ends of names differ as for a known image's mask."""
    letters = zip(known_image.name, known_mask.name, strict=False)
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], letters))  # where both names begin to differ
    name = image.name.removesuffix(known_image.name[start:]) + known_mask.name[start:]
    folders = zip(image.parts[:-1], known_image.parts[:-1], known_mask.parts[:-1], strict=False)
    return Path(*(own if of_image == of_mask else of_mask for own, of_image, of_mask in folders), name)
