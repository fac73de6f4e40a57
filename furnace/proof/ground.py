"""What promises are tried on: an experiment in a folder of its own, a device, and images that were drawn for it."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import torch

from furnace.config.checks import check_training
from furnace.config.experiment import Experiment, read_experiment
from furnace.data.datasets import CITYSCAPES, VOC
from furnace.engine.distributed import World
from furnace.engine.gpus import gpus_to_use
from furnace.engine.join import join_world
from furnace.errors import EXIT_RESUBMIT, InputError
from furnace.proof.trial import Losses, Trial
from furnace.synthetic.layout import write_city_layout, write_voc_layout
from furnace.training.trainer import Trainer

IMAGES, EPOCHS = 15, 2  # images for each one of a batch: ten iterations an epoch, and validation
DEFAULTS = {
    "decoder": "published",
    "backbone": "resnet18_v1c",
    "batch_size": "4",
    "pretrained_model": "none",
    "nepochs": str(EPOCHS),
    "ema_decay": "0.99",
    "timeout_minutes": "2",
}
# A small network. On a GPU it has the numbers of channels for which libraries have their fast kernels.
SMALL = {"cpu": {"width": "0.125", "image_size": "64"}, "cuda": {"width": "0.5", "image_size": "96"}}
REPEATED = {"deterministic": "1", "validate_epochs": str(EPOCHS)}  # of a run that is compared bit for bit
Texts = Mapping[str, str]  # settings, as `read_experiment` takes them
AS_IT_IS: Texts = {}


class Ground:
    """What all promises share.

    Args:
        folder: an empty folder for everything that is written.
        experiment: the folder of the experiment that is tried.
        texts: settings, which win over DEFAULTS and SMALL.
        only: words of the promises that were asked for; empty if all are tried.

    Attributes:
        gpus: how many GPUs there are to use; 0 if the device is the CPU.
        copy: the folder of an experiment that builds on it and changes nothing, in which its log_df.csv lies.

    Raises:
        InputError: a setting is bad, the GPUs cannot be used, or no images can be drawn for the experiment.
    """

    def __init__(self, folder: Path, experiment: Path, texts: Texts, only: str = "") -> None:
        self.folder, self.copy, self.only = folder, folder / "experiment", only
        data = folder / "data"
        for made in (self.copy, data):
            made.mkdir()
        self._texts: Texts = {**DEFAULTS, **texts, "dataset_path": str(data)}
        read = read_experiment(experiment, self.settings())
        base = f"config = dict(base={str(experiment.resolve())!r})\n"
        (self.copy / "config.py").write_text(base, encoding="utf-8")
        self.gpus = gpus_to_use(read.settings.NGPUS)
        self.world = join_world(min(1, self.gpus), read.settings.timeout_minutes)
        self.device = self.world.device
        self._texts = {**SMALL[self.device.type], **self._texts}
        if read.dataset not in (VOC, CITYSCAPES):
            raise InputError(
                f"experiment: {experiment} trains on {read.dataset.name}, expected VOC or Cityscapes, for which images "
                "can be drawn; name such an experiment, or none"
            )
        write = write_voc_layout if read.dataset == VOC else write_city_layout
        write(data, images=IMAGES * max(4, read.settings.batch_size))

    def settings(self, changed: Texts = AS_IT_IS, run: str = "output") -> dict[str, str]:
        """Returns all settings of a trial, or of a run into the folder of that name; those `changed` win."""
        output = str(self.folder / run)
        return {**self._texts, "OUTPUT_PATH": output, "snapshot_dir": output, **changed}

    def experiment(self, changed: Texts = AS_IT_IS, run: str = "output") -> Experiment:
        """Returns the experiment with these settings."""
        return read_experiment(self.copy, self.settings(changed, run))

    def trial(self, changed: Texts, world: World | None = None) -> Trial:
        """Returns what takes single steps with these settings, on this device unless the `world` is another."""
        return Trial(self.experiment(changed), world or self.world)

    def losses(self, count: int, changed: Texts, world: World | None = None) -> Losses:
        """Takes so many steps with these settings, and returns their terms."""
        trial = self.trial(changed, world)
        return trial.steps(trial.batches(count))

    def train(self, run: str, changed: Texts) -> None:
        """Trains into the folder of that name, to the end of the run.

        Raises:
            SystemExit: somebody asked this process to stop.
        """
        if not self.start(run, changed):
            raise SystemExit(EXIT_RESUBMIT)

    def start(self, run: str, changed: Texts, prepare: Callable[[Trainer], None] = lambda _: None) -> bool:
        """Trains into the folder of that name; returns False if the run was asked to stop before its end.

        Args:
            prepare: is given the run before it begins.
        """
        experiment = self.experiment(changed, run)
        check_training(experiment)
        trainer = Trainer(experiment, self.world)
        prepare(trainer)
        return trainer.run()

    @cached_property
    def undisturbed_run(self) -> Path:
        """The folder of a run that nobody disturbed, with the scores of its last epoch; it is trained here."""
        self.train("run", REPEATED)
        return self.folder / "run"

    def description(self) -> str:
        """Returns on what device, and on how large a network and batch, promises are tried."""
        settings = self.experiment().settings
        return (
            f"{_in_words(self.device)}; {settings.backbone}, width {settings.width:g}, crop {settings.image_size}, "
            f"batch {settings.batch_size}"
        )


def _in_words(device: torch.device) -> str:
    if device.type == "cpu":
        return f"a CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch does not annotate it
    return (
        f"{torch.cuda.get_device_name(device)} (capability {capability}), torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}, cuDNN {cudnn}"
    )
