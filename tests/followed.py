"""Pages of docs/ that are followed word for word: the commands that they show, and what these print."""

import os
import re
import subprocess
import sys
from pathlib import Path


def commands(text: str) -> str:
    """The indented lines of a page, or of a part of it."""
    return "\n".join(line[4:] for line in re.findall(r"^(?:    .*|)$", text, re.MULTILINE))


def follow(text: str, folder: Path, **more: str) -> str:
    """Runs the commands of a part of a page in a folder, with more variables, and returns what they print."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(text)],
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **more},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout
