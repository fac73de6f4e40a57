"""TensorBoard's event files: a run does without them, so no failure of them, whatever its kind, ever ends it."""

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from furnace.engine.bars import tell
from furnace.errors import in_short

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Events:
    """Writes scalars and pictures into files below one folder. After a failure it says so once and writes no more.

    Args:
        first_step: TensorBoard hides what an earlier process wrote for this step and later ones.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.folder, self.first_step = folder, first_step
        self._failed = False

    @cached_property
    def _writer(self) -> "SummaryWriter":
        """The writer, which is made when it is first used, because a run that has nothing to do needs none."""
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = _silent_for_tensorboard(threading.excepthook)
        return SummaryWriter(self.folder, purge_step=self.first_step)

    def begin(self) -> None:
        """Makes the first file, so that whoever misses TensorBoard reads of it before the first step."""
        self._attempt(lambda writer: writer.flush())

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Adds numbers by name, and makes them visible at once."""

        def write(writer: "SummaryWriter") -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        self._attempt(write)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Adds an image (H, W, 3) uint8 RGB."""
        self._attempt(lambda writer: writer.add_image(name, pixels, step, dataformats="HWC"))

    def close(self) -> None:
        """Writes what is left and ends the thread that writes."""
        if "_writer" in vars(self):
            self._attempt(lambda writer: writer.close())

    def _attempt(self, write: Callable[["SummaryWriter"], None]) -> None:
        if self._failed:
            return
        try:
            write(self._writer)
        except Exception as error:  # TensorBoard and what it is built on may be missing, or not fit each other
            self._failed = True
            tell(f"note: no more events for TensorBoard: {self.folder}: {in_short(error)}")


def _silent_for_tensorboard(hook: Callable) -> Callable:
    """Returns a hook for uncaught errors in threads that prints none from TensorBoard's writing thread.

    TensorBoard raises such an error again at the next call that writes, and `Events` reports it there.
    """

    def silent(arguments: threading.ExceptHookArgs) -> None:
        if not type(arguments.thread).__module__.startswith("tensorboard."):
            hook(arguments)

    return silent
