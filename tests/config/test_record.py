"""The commit that a run records is this library's own, and no other repository's."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from furnace.config import record

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_copy_within_another_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "vendor/furnace/config/record.py"
    copy.parent.mkdir(parents=True)
    copy.touch()
    monkeypatch.setattr(record, "__file__", str(copy))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert record.software_record()["git_commit"] is None  # no repository at all
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project's")
    assert record.software_record()["git_commit"] is None
    git(tmp_path, "add", "vendor")
    git(tmp_path, "commit", "-q", "-m", "the library, too")
    assert record.software_record()["git_commit"] == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "log_df.csv").write_text("a row")
    git(tmp_path, "add", "log_df.csv")
    assert record.software_record()["git_commit"] == git(tmp_path, "rev-parse", "HEAD")  # a table is no code
    copy.write_text("changed")
    assert record.software_record()["git_commit"] == git(tmp_path, "rev-parse", "HEAD") + "-dirty"


def test_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert record.software_record()["git_commit"] is None


def test_the_versions_of_a_networks_library_are_written_down_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("segmentation_models_pytorch", "timm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert "timm" not in record.software_record()["versions"]
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(__version__="1.2.3"))
    assert record.software_record()["versions"]["timm"] == "1.2.3"
