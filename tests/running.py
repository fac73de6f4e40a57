"""Processes that tests start, and what they wait for."""

import os
import subprocess
import sys
import time
from pathlib import Path

from repository import REPOSITORY

LAUNCH = "import sys; from furnace.engine.torchrun import launch; sys.exit(launch(sys.argv[1:], 2, timeout_minutes=10))"
IN_TWO_PROCESSES = (sys.executable, "-c", LAUNCH)  # before a command and its arguments

# Before a command, on a machine whose own name stands for no address; nothing where that cannot be arranged.
NAMELESS = ("unshare", "--uts", "sh", "-c", 'hostname no-such-name; exec "$@"', "sh")
if subprocess.run(["sh", "-c", "unshare --uts hostname no-such-name"], check=False, capture_output=True).returncode:
    NAMELESS = ()


def children_of(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def start(*command: str, **settings: str) -> subprocess.Popen:
    """A command in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **settings}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
