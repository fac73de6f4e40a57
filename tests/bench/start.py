"""From `bash train_ema.sh` to the first iteration, over importing torch and torchvision.

    python -m tests.bench.start

The demo recipe on a CPU, on demo data made for it; both commands in turn, in a fresh process each time, with the files
warm. A pseudo-terminal shows when the progress bar counts its first iteration. The last line is one JSON object.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from functools import partial
from pathlib import Path

from furnace.synthetic.layout import write_voc_layout
from tests.bench.measure import REPOSITORY, in_turn, markdown

EXPERIMENT = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
IMPORTS = [sys.executable, "-c", "import torch, torchvision"]
COUNTED = re.compile(rb"\b[1-9]\d*/\d+ \[")  # the bar after at least one iteration
DEMO = {
    "NGPUS": "0",
    "pretrained_model": "none",
    "backbone": "resnet18_v1c",
    "width": "0.25",
    "image_size": "96",
    "train_scales": "0.75,1,1.25,1.5",
    "eval_epochs": "none",
}


def train_to_first_iteration(folder: Path) -> None:
    """Starts the script anew and stops it as soon as its bar counts."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    environment = {
        **os.environ,
        **DEMO,
        "dataset_path": str(folder / "data"),
        "OUTPUT_PATH": str(output),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # a bar needs a width
    script = subprocess.Popen(
        ["bash", str(EXPERIMENT / "train_ema.sh")],
        env=environment,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while not COUNTED.search(shown):
        try:
            shown += os.read(ours, 4096)
        except OSError:  # it ended
            sys.exit(f"no iteration was counted:\n{shown.decode(errors='replace')[-2000:]}")
    os.killpg(script.pid, signal.SIGKILL)
    script.wait()
    os.close(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_voc_layout(Path(folder) / "data", images=50)
        works = {
            "first iteration": partial(train_to_first_iteration, Path(folder)),
            "imports": partial(subprocess.run, IMPORTS, check=True),
        }
        times = in_turn(works, options.turns)
    ratio = times["first iteration"].median / times["imports"].median
    rows = [["bash train_ema.sh to its first iteration", times["first iteration"], times["imports"], f"{ratio:.2f}"]]
    print(markdown(["what", "here", "import torch, torchvision", "ratio"], rows))
    print(json.dumps({"first_iteration_over_import": round(ratio, 3)}))


if __name__ == "__main__":
    main()
