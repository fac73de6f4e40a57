"""Where this checkout lies, and copies of its experiments."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def copy_experiment(name: str, target: Path, recipe: str = "ensemble_teacher+cutmix") -> None:
    """An experiment's files, without the scores that its own runs have left there."""
    folder = REPOSITORY / name / recipe
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*log_df.csv*", "__pycache__"))
