"""Packages that are missing, too old, or do not go together."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from furnace.doctor import packages, torchvision_fit
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.wanted import Wanted


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes an environment in which these versions are installed."""

    def put(**found: str) -> None:
        by_name = {name.replace("_", "-"): version for name, version in found.items()}
        monkeypatch.setattr(packages, "_own_version", by_name.get)
        monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)

    return put


def test_requirements_are_read_with_their_least_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required = packages._required()
    assert required["torch"] == "2.6" and required["timm"] == "1.0.20" and required["tqdm"] == "0"
    assert required["opencv-python-headless"] == "4.10"  # but not 4.10.0.82
    monkeypatch.setattr(packages, "REPOSITORY", tmp_path)  # installed without its repository
    of_program = ["torch>=2.6", "opencv!=4.10.0.82,>=4.10", "tqdm", 'pytest>=8; extra == "test"']
    monkeypatch.setattr(packages.metadata, "requires", lambda _: of_program)
    assert packages._required() == {"torch": "2.6", "opencv": "4.10", "tqdm": "0"}


def test_every_name_of_the_tables_is_required() -> None:
    required = set(packages._required())
    assert set(packages.WITHOUT) | set(packages.MODULES) | set(packages.IMPORTED) <= required


def test_missing_and_old_packages(versions: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    least = {"torch": "2.6", "numpy": "2", "scipy": "0", "timm": "1.0.20", "opencv-python-headless": "4.10"}
    monkeypatch.setattr(packages, "_required", lambda: least)
    versions(torch="2.10.0+cu128", numpy="1.26.4", timm="1.0.9", opencv_python="4.11.0.86")
    found = list(packages.installed(Wanted()))
    assert [(finding.state, finding.subject) for finding in found] == [
        (PROBLEM, "numpy"), (NOTE, "scipy"), (NOTE, "timm"), (OK, "packages"),
    ]  # fmt: skip
    assert found[0].found == "1.26.4 is installed, expected 2 or newer"
    assert found[1].found == "is not installed: SBD's masks may be missing"
    assert found[3].figures == {"torch": "2.10.0+cu128", "opencv-python-headless": "4.11.0.86"}


def test_a_package_without_metadata_counts_as_there(versions: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_required", lambda: {"opencv-python-headless": "4.10"})
    versions()
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: object() if name == "cv2" else None)
    assert [finding.state for finding in packages.installed(Wanted())] == [OK]


@pytest.mark.parametrize(
    ("torch", "torchvision", "fitting"),
    [
        ("2.6.0", "0.21.0", None), ("2.7.1", "0.22.1", None), ("2.8.0", "0.23.0", None), ("2.9.0", "0.24.0", None),
        ("2.14.1", "0.29.1", None), ("3.0.0", "0.31.0", None),
        ("2.9.0", "0.23.0", "0.24"), ("2.6.0+cu124", "0.20.1", "0.21"), ("2.14.1", "1.0.0", "0.29"),
    ],
)  # fmt: skip
def test_torchvision_beside_torch(
    versions: Callable, monkeypatch: pytest.MonkeyPatch, torch: str, torchvision: str, fitting: str | None
) -> None:
    versions(torch=torch, torchvision=torchvision)
    monkeypatch.setattr(torchvision_fit, "_platform_of", lambda _: "")
    monkeypatch.setattr(torchvision_fit, "_failure_of_importing", lambda _: "RuntimeError: no nms")
    found = list(torchvision_fit.fits(Wanted()))
    assert bool(found) == bool(fitting)
    if fitting:
        assert found[0].remedy == f'pip install "torchvision=={fitting}.*"'
        assert f"{torchvision} does not go with torch {torch}, for which {fitting} is made" in found[0].found


def test_what_can_be_imported_goes_together(versions: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    versions(torch="2.9.0", torchvision="0.23.0")
    monkeypatch.setattr(torchvision_fit, "_failure_of_importing", lambda _: "RuntimeError: no nms")
    (found,) = torchvision_fit.fits(Wanted())
    assert found.state == NOTE  # a run with the published network does without it
    (found,) = torchvision_fit.fits(Wanted(needs_torchvision=True))
    assert found.state == PROBLEM
    monkeypatch.setattr(torchvision_fit, "_failure_of_importing", lambda _: "")
    assert not list(torchvision_fit.fits(Wanted(needs_torchvision=True)))


@pytest.mark.parametrize(
    ("torch", "torchvision"),
    [
        ("2.6.0a0+ecf3bae40a.nv25.01", "0.20.0a0"), ("2.6.0+ecf3bae40a.nv25.01", "0.20.0+nv"),
        ("2.15.0.dev1+cpu", "0.29.0"), ("2.6.0a0+git1b2", "0.21.0"), ("2.6.0", "0.20.0a0+abc"),
    ],
)  # fmt: skip
def test_of_builds_that_are_no_releases_the_import_alone_tells(
    versions: Callable, monkeypatch: pytest.MonkeyPatch, torch: str, torchvision: str
) -> None:
    versions(torch=torch, torchvision=torchvision)
    monkeypatch.setattr(torchvision_fit, "_failure_of_importing", lambda _: "")
    assert not list(torchvision_fit.fits(Wanted()))
    monkeypatch.setattr(torchvision_fit, "_failure_of_importing", lambda _: "RuntimeError: no nms")
    (found,) = torchvision_fit.fits(Wanted())
    assert found == Finding(
        NOTE,
        "torchvision",
        f"{torchvision} cannot be imported beside torch {torch}: RuntimeError: no nms, so that torchvision's weights, "
        "and networks of segmentation_models_pytorch are missing",
        "take both from one container, or from one index of pip",
    )


def test_an_import_is_tried_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_here.py").write_text("import fractions\nraise RuntimeError('operator x::y does not exist')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert torchvision_fit._failure_of_importing("json") == ""
    assert torchvision_fit._failure_of_importing("broken_here") == "RuntimeError: operator x::y does not exist"
    assert "broken_here" not in sys.modules
    monkeypatch.setattr(torchvision_fit, "PATIENCE", 0.0)
    assert "timed out" in torchvision_fit._failure_of_importing("json")


@pytest.mark.parametrize(
    ("torch", "torchvision", "mixed"),
    [
        ("cu130", "cu130", False), ("cu126", "cu128", False), ("cu128", "cu130", True), ("cpu", "cu130", True),
        ("cu130", "cpu", False), ("", "cu130", False), ("cpu", "cpu", False), ("rocm6.4", "rocm6.4", False),
    ],
)  # fmt: skip
def test_builds_that_do_not_go_together(
    versions: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch: str, torchvision: str, mixed: bool
) -> None:
    versions(torch="2.9.0", torchvision="0.24.0")
    for name, build in (("torch", torch), ("torchvision", torchvision)):
        (tmp_path / name).mkdir()
        if build:
            (tmp_path / name / "version.py").write_text(f"__all__ = ['x']\n__version__ = '1.0.0+{build}'\n")
    located = SimpleNamespace(locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(packages.metadata, "distribution", lambda _: located)
    monkeypatch.setattr(torchvision_fit, "_failure_of_importing", lambda _: "RuntimeError: no nms")
    found = list(torchvision_fit.fits(Wanted(needs_torchvision=True)))
    assert [finding.state for finding in found] == [PROBLEM] * mixed
    assert not mixed or found[0].found.startswith(f"is built for {torchvision}, torch for {torch}: importing it fails")


def test_two_packages_of_opencv(versions: Callable) -> None:
    versions(opencv_python="4.10", opencv_python_headless="4.11")
    (found,) = packages.one_opencv(Wanted())
    assert found.state == NOTE and found.found.startswith("opencv-python-headless 4.11 and opencv-python 4.10 are ")
    versions(opencv_python_headless="4.11")
    assert not list(packages.one_opencv(Wanted()))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Exception], None]:
    """Makes the import of a module fail."""
    packages.faults.cache_clear()
    whole = packages.importlib.import_module

    def put(module: str, error: Exception) -> None:
        def import_module(name: str, *package: str) -> object:
            if name == module:
                raise error
            return whole(name, *package)

        monkeypatch.setattr(packages.importlib, "import_module", import_module)

    yield put
    packages.faults.cache_clear()


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (ImportError("libGL.so.1: cannot open shared object file"), "cannot load libGL.so.1: ", "install it, or pip"),
        (AttributeError("_ARRAY_API not found"), "importing it fails: AttributeError: _ARRAY_API not found", "pip "),
    ],
)
def test_a_package_that_cannot_be_imported(failing: Callable, error: Exception, found: str, remedy: str) -> None:
    failing("cv2", error)
    (finding,) = packages.imports(Wanted())
    assert (finding.state, finding.subject) == (PROBLEM, "opencv-python-headless")
    assert finding.found.startswith(found) and finding.remedy.startswith(remedy)


def test_a_file_that_hides_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cv2.py").touch()
    (tmp_path / "torch").mkdir()  # a folder without __init__.py hides nothing
    assert not list(packages.imports(Wanted()))
    monkeypatch.syspath_prepend(str(tmp_path))
    (finding,) = packages.imports(Wanted())
    assert (finding.state, finding.subject, finding.remedy) == (PROBLEM, "opencv-python-headless", "rename that file")
    assert finding.found == f"{tmp_path}/cv2.py hides the installed package"


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.sys, "version_info", (3, 10, 12, "final", 0))
    (finding,) = packages.python(Wanted())
    assert finding.state == PROBLEM and finding.found == "3.10.12, expected 3.11 or newer"
