"""How good are the pseudo-labels of a run? Each snapshot labels the unlabelled images, whose masks are then looked at.

    python -m tests.bench.study.pseudo_labels tests/bench/study/msrc21 method=ema labeled_ratio=4
    python -m tests.bench.study.pseudo_labels EXPERIMENT OUTPUT_PATH=RUN --epochs 1-5,10 --images 100 --strong

Train with `keep_snapshots=all`. The run is found as `python -m furnace eval` finds it, and looked at with the views,
batches and norms that its config.json names, or that the command does (`teacher_norm=running`, `batch_size=8`).
Students and teachers, where there are any, label weak views as labellers do in training, and every snapshot sees the
same views, each image once. The masks are the unlabelled list's own; where it has none, they are looked for where the
first labelled image has its mask. With `--strong` the students also label the strong views of the same crops, and both
views mixed by CutMix with those of the batch's next image. What they lose there is what learning in that view asks of
them.

A line of the table, and a row of the CSV, is one labeller of one snapshot. All numbers but `epoch` and `pixels` are in
percent of the pixels that count: not padding, not ignored ones.

    accuracy, mean_IoU        against the masks
    confidence                mean probability of the class that is said
    calibration_error         mean distance between confidence and accuracy within 15 equal bins of confidence,
                              weighted by their pixels (Guo et al., "On Calibration of Modern Neural Networks", 2017)
    share_0.8, accuracy_0.8   pixels with at least this probability, and the accuracy among them
    agreement                 pixels of which both students, or both teachers, say the same
    accuracy_agreed           accuracy where they agree; accuracy_disagreed is that of this labeller where they do not
    IoU_CLASS, recall_CLASS   of a class; said_CLASS is how often it is said, occurs_CLASS how often it occurs

A class that is said far less often than it occurs is about to vanish from what the students learn.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from furnace.config.arguments import EXPERIMENT_HELP, Parser, require_readable, texts_of
from furnace.config.checks import check_image_size
from furnace.config.experiment import Experiment, for_evaluation, read_experiment
from furnace.config.record import filled, read_record
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from furnace.data.samples import LABELED, Plan, TrainingSamples
from furnace.engine.backend import autocast, prepare_backends, training_dtype
from furnace.engine.bars import bar
from furnace.engine.checkpoint import Snapshots
from furnace.engine.files import write_text
from furnace.engine.gpus import gpus_to_use, take_device
from furnace.errors import EXIT_BAD_INPUT, InputError, say, system_errors_said
from furnace.evaluation.evaluate import chosen_epochs
from furnace.evaluation.validation import filled_networks
from furnace.labels import IGNORE
from furnace.semi.cutmix import cutmix_masks, mix
from furnace.semi.ensemble import NETWORKS, STUDENTS, predictors_of
from furnace.semi.modes import freeze_backbone_norms, set_to_label
from furnace.semi.terms import Autocast
from tests.bench.study.masks import unlabeled_with_masks
from tests.bench.study.pseudo_table import class_table, header, line
from tests.bench.study.tally import Tally

SEED = 15  # of the views, which are no run's own
# What the views and the labels of a run depend on beside its network.
TRAINED = (
    "labeled_ratio",
    "lists_path",
    "train_scales",
    "batch_size",
    "teacher_norm",
    "backbone_norm",
    "cutmix_boxes",
    "distribution_alignment",
    "precision",
    "channels_last",
)

OF_STUDENTS = ("strong", "weak mixed", "strong mixed")  # views that only students see


class Views(NamedTuple):
    """B unlabelled images as networks take them, and what they show."""

    weak: Tensor  # (B, 3, S, S) float
    strong: Tensor | None  # the same
    truth: Tensor  # (B, S, S) uint8 in the view of `weak`; 255 around the view, and where a pixel is ignored
    mask: Tensor  # (B, 1, S, S) uint8: where each image is replaced by the next one in a mixed view

    def of(self, view: str) -> tuple[Tensor, Tensor]:
        """Returns the images and the truth of a view: `weak` or one of OF_STUDENTS."""
        image = self.strong if view.startswith("strong") else self.weak
        assert image is not None, "strong views were not asked for"
        if not view.endswith("mixed"):
            return image, self.truth
        return mix(image, image.roll(-1, 0), self.mask), mix(self.truth, self.truth.roll(-1, 0), self.mask)


class PseudoLabels:
    """The unlabelled images of a run, and what its networks say of them."""

    def __init__(self, experiment: Experiment, images: int | None, with_strong: bool) -> None:
        self.experiment, self.settings = experiment, experiment.settings
        prepare_backends(self.settings.deterministic)
        self.device = take_device(min(1, gpus_to_use(self.settings.NGPUS)))
        self.layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        self.autocast = partial(autocast, self.device, training_dtype(self.settings.precision, self.device))
        split = unlabeled_with_masks(experiment)
        batch, there = self.settings.batch_size, len(split.files)
        wanted = there if images is None else min(images, there)
        self.batches = wanted // batch  # a last batch that is not full would have other statistics
        if self.batches < 1:
            raise InputError(
                f"expected at least a batch of {batch} unlabelled images, found {wanted} to look at of {there} in "
                f"{split.files.path}; raise --images, or take another labeled_ratio"
            )
        self.plan = Plan(
            batch_size=batch,
            iterations_per_epoch=self.batches,
            iterations=self.batches,
            pairs_from=0,
            crop=self.settings.image_size,
            scales=self.settings.train_scales,
            with_strong=with_strong,
            seed=SEED,
        )
        # As the labelled stream, the images come with their masks. Asked for as unlabelled ones by the same numbers,
        # the same crops come with their strong views. They are no pairs, so that no CutMix masks are drawn for them.
        self.samples = TrainingSamples(split, split, self.plan, draw_mask=lambda size, random: np.empty(size))

    def views(self) -> Iterator[Views]:
        """Yields all batches, the same ones each time."""
        mean, std = (torch.tensor(each, device=self.device) for each in (IMAGENET_MEAN, IMAGENET_STD))

        def ready(image: Tensor, box: Tensor) -> Tensor:
            pixels = normalize(image.to(self.device), mean, std, box.to(self.device))
            return pixels.contiguous(memory_format=self.layout)  # (B, 3, S, S)

        for iteration in range(self.batches):
            places = [self.plan.place(index) for index in self.plan.indices(iteration)]
            seen, truth = self.samples.labeled(places)
            strong = self.samples.unlabeled(LABELED, places).strong if self.plan.with_strong else None
            random, size = np.random.default_rng([SEED, iteration]), (self.plan.crop, self.plan.crop)
            mask = cutmix_masks(self.plan.batch_size, size, random, boxes=self.settings.cutmix_boxes)
            yield Views(
                weak=ready(seen.weak, seen.box),
                strong=None if strong is None else ready(strong, seen.box),
                truth=truth.to(self.device),
                mask=torch.from_numpy(mask).to(self.device),
            )

    @torch.no_grad()
    def rows(self, snapshots: Snapshots, epoch: int) -> list[dict[str, object]]:
        """Returns a row for each labeller of a snapshot."""
        there = NETWORKS if snapshots.has_teachers(epoch) else STUDENTS
        networks = filled_networks(self.experiment, snapshots, epoch, predictors_of(there))
        for network in networks.values():
            set_to_label(network.to(self.device).to(memory_format=self.layout), self.settings.teacher_norm == "batch")
            if self.settings.backbone_norm == "frozen":
                freeze_backbone_norms(network)
        looks = [(there[first : first + 2], "weak") for first in range(0, len(there), 2)]
        looks += [(STUDENTS, view) for view in OF_STUDENTS] if self.plan.with_strong else []
        classes = self.experiment.dataset.classes
        tallies = {(name, view): Tally(len(classes), self.device) for pair, view in looks for name in pair}
        for views in bar(self.views(), total=self.batches, desc=f"epoch {epoch}", unit="batch", leave=False):
            for pair, view in looks:
                image, truth = views.of(view)
                counts = truth != IGNORE  # (B, S, S)
                if not counts.any():
                    continue
                said = [labels_and_probabilities(networks[name], image, self.autocast) for name in pair]
                for name, (label, probability), (other, _) in zip(pair, said, said[::-1], strict=True):
                    tallies[name, view].add(label[counts], probability[counts], other[counts], truth[counts])
        return [
            {"epoch": epoch, "labeller": name, "view": view, **tally.row(classes)}
            for (name, view), tally in tallies.items()
        ]


def labels_and_probabilities(network: nn.Module, image: Tensor, autocast: Autocast) -> tuple[Tensor, Tensor]:
    """Returns the hard labels (B, S, S) uint8 that LabelsOf gives to images (B, 3, S, S), and their probabilities."""
    with autocast():
        logits = network(image)  # (B, N, S, S)
    return logits.argmax(dim=1).to(torch.uint8), logits.float().softmax(dim=1).amax(dim=1)


def as_trained(experiment: Experiment) -> Experiment:
    """Returns the experiment with what its run's views and labels depend on, unless the command says otherwise."""
    experiment = for_evaluation(experiment)
    record = read_record(experiment.settings.OUTPUT_PATH).get("settings")
    known = {} if not record else {name: filled(record)[name] for name in TRAINED if name not in experiment.explicit}
    if known.get("lists_path"):
        known["lists_path"] = Path(known["lists_path"])
    if "train_scales" in known:
        known["train_scales"] = tuple(known["train_scales"])
    return dataclasses.replace(experiment, settings=dataclasses.replace(experiment.settings, **known))


def look(options: argparse.Namespace) -> None:
    """Prints the table line by line, and writes the CSV anew after each snapshot."""
    require_readable("epochs", "eval_epochs", options.epochs)
    texts = {**texts_of(options.settings), "eval_epochs": options.epochs}
    experiment = as_trained(read_experiment(options.experiment, texts))
    check_image_size(experiment)
    if note := experiment.note_of_changes():
        print(note, flush=True)
    settings, classes = experiment.settings, experiment.dataset.classes
    if settings.distribution_alignment:
        print("note: labels are shown as they are before distribution_alignment; no snapshot has the classes' shares")
    snapshots = Snapshots(settings.snapshot_dir)
    epochs = chosen_epochs(snapshots, settings.eval_epochs)
    out = options.out or settings.OUTPUT_PATH / "pseudo_labels.csv"
    labels = PseudoLabels(experiment, options.images, options.strong)
    print(f"{labels.batches * settings.batch_size} unlabelled images of {settings.snapshot_dir}, on {labels.device}")
    print(header(), flush=True)
    rows: list[dict] = []
    begin = time.perf_counter()
    for epoch in epochs:
        newest = labels.rows(snapshots, epoch)
        rows += newest
        print(*map(line, newest), sep="\n", flush=True)
        write_text(out, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    if rows:
        print(f"{(time.perf_counter() - begin) / len(epochs):.1f} s a snapshot; the classes in epoch {epochs[-1]}:")
        print(class_table([row for row in newest if row["view"] in ("weak", "strong")], classes))
        print(f"written to {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("pseudo_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.any_order = True
    parser.add_argument("experiment", help=EXPERIMENT_HELP)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--epochs", default="all", help="all (the default), last, or such as 1-5,10")
    parser.add_argument("--images", type=int, help="at most so many, drawn at random; all by default")
    parser.add_argument("--strong", action="store_true", help="students on strong and mixed views, too")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="by default OUTPUT_PATH/pseudo_labels.csv")
    options = parser.parse_args(arguments)
    try:
        with system_errors_said():
            look(options)
    except InputError as error:
        say(error)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
