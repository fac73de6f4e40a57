"""`predict.sh`, called from where the images are."""

import os
import subprocess
import sys
from pathlib import Path

from photos import files_below, write_photos
from repository import REPOSITORY
from runs import train

from furnace.config.settings import FIELDS


def test_the_script_means_paths_from_where_it_is_called(demo_data: Path, tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    trained = train(tmp_path / "trained", demo_data, "nepochs=1")
    photos = write_photos(tmp_path / "my photos")
    script = trained.experiment / "predict.sh"
    environment = {name: value for name, value in os.environ.items() if name not in FIELDS}
    environment |= {"volna": str(REPOSITORY), "NGPUS": "0", "OUTPUT_PATH": str(trained.run)}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    (photos / "furnace.py").write_text("raise SystemExit('imported from where the caller is')")
    command = ["bash", str(script), "sub", "a.png", "--out", "../made here"]
    subprocess.run(command, cwd=photos, env=environment, check=True, capture_output=True)
    assert files_below(tmp_path / "made here/index") == ["a.png", "b.png", "deep er/c.png"]
