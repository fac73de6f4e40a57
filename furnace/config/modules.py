"""The Python files of an experiment folder: how they find each other, and digests that tell whether they are the same.

A file there may import modules that lie beside it, whatever folder Python was started in. Where the experiment builds
on another one, files that its own folder lacks are those of its base. Experiments of one process may have modules of
the same names: those of one are hidden from Python while another one is in use.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from furnace.errors import InputError

MEND = "mend the file (debug=1 shows where)"


class Code:
    """The Python files of one experiment folder and of those it builds on, of which nothing is imported yet."""

    _in_use: ClassVar["Code | None"] = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders = [folder]  # the experiment's own, its base, the base's base, ...: the first that has a file wins
        self._hidden: dict[str, ModuleType] = {}  # the folders' modules by name, while another experiment is in use

    def build_on(self, base: Path) -> None:
        """Lets files that no folder so far has be found in that of a base, too."""
        self.use()
        self._leave_path()
        self.folders.append(base)
        self._enter_path()

    def path(self, file: str) -> Path:
        """Returns where a file lies: in the first folder that has it, or else, missing, in the experiment's own."""
        return next((folder / file for folder in self.folders if (folder / file).is_file()), self.folder / file)

    def load(self, file: str, name: str) -> Any:
        """Runs a file of the first folder that has it, and returns the object `name` that the file defines.

        Raises:
            InputError: there is no such file, it fails, or it defines no such object.
        """
        return self.load_from(self.path(file).parent, file, name)

    def load_from(self, folder: Path, file: str, name: str) -> Any:
        """Runs the file of one of the folders, as `load` does."""
        path = folder / file
        if not path.is_file():
            raise InputError(f"no experiment: {path} is missing; expected config.py and network.py side by side")
        self.use()
        depth = self.folders.index(folder)
        spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}{f'_base{depth}' if depth else ''}", path)
        assert spec is not None and spec.loader is not None  # because the file's name ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and torch.compile look for a class's module there
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            remedy = f"install what it needs, put its module into {folder}, or mend the file"
            raise InputError(f"{path}: {type(error).__name__}: {error}; {remedy}") from error
        except (Exception, SystemExit) as error:  # whatever a user's file raises
            raise InputError(f"{path}: {type(error).__name__}: {error}; {MEND}") from error
        if not hasattr(module, name):
            raise InputError(f"{path} defines no {name}; expected one, as in exp.voc/ensemble_teacher+cutmix")
        return getattr(module, name)

    def use(self) -> None:
        """Lets Python find the modules of these folders, and those of no other experiment."""
        if Code._in_use is self:
            return
        if other := Code._in_use:
            other._hidden = other._imported()
            for name in other._hidden:
                del sys.modules[name]
            other._leave_path()
        self._enter_path()
        sys.modules.update(self._hidden)
        Code._in_use = self

    def _enter_path(self) -> None:
        sys.path[:0] = map(str, self.folders)
        importlib.invalidate_caches()

    def _leave_path(self) -> None:
        for folder in map(str, self.folders):
            if folder in sys.path:
                sys.path.remove(folder)

    def digests(self) -> dict[str, str]:
        """Returns the SHA-256 of every file of the folders that has been imported, by its path from the own folder.

        Blank lines, lines that are comments, and the system's ends of lines do not count.
        """
        self.use()
        paths = {Path(_place_of(module)) for module in self._imported().values()}
        return {
            Path(os.path.relpath(path, self.folder)).as_posix(): _digest(path)
            for path in sorted(paths)
            if path.is_file()
        }

    def changes(self, before: Mapping[str, str]) -> list[str]:
        """Says of each file that decides results and had another digest `before`, or is gone, that it has changed.

        A file of a base has changed, too, where another one of its name now lies in a folder that comes before it.
        config.py is not among them: its settings are compared themselves.
        """
        changed = []
        for name, digest in before.items():
            inside = self._inside(name)
            path = None if inside is None else self.path(inside)
            if inside == "config.py" or (path is None and name.endswith("/config.py")):  # of a base there was
                continue
            if path is None or not path.is_file() or _digest(path) != digest:
                changed.append(f"{name} has changed")
        return changed

    def _inside(self, name: str) -> str | None:
        """Returns the path in its own folder of a file that `digests` named; None if it is in none of the folders."""
        path = Path(os.path.normpath(self.folder / name))
        holding = [folder for folder in self.folders if path.is_relative_to(folder)]
        nearest = max(holding, key=lambda folder: len(folder.parts), default=None)
        return None if nearest is None else path.relative_to(nearest).as_posix()

    def _imported(self) -> dict[str, ModuleType]:
        """Returns the modules that Python holds of these folders; an environment in one of them is no part of it."""
        found = {}
        for name, module in list(sys.modules.items()):
            place, is_library = _place_of(module), name.partition(".")[0] == "furnace"
            lies_here = any(place.startswith(f"{folder}/") for folder in self.folders)
            if lies_here and "/site-packages/" not in place and not is_library:
                found[name] = module
        return found


def _place_of(module: ModuleType) -> str:
    """Returns the path of a module's file, or of its folder if it has no file; empty for what is built in."""
    attributes = getattr(module, "__dict__", {})  # asked directly, some modules would import others
    return str(attributes.get("__file__") or next(iter(attributes.get("__path__") or ()), ""))


def _digest(path: Path) -> str:
    lines = [line.rstrip() for line in path.read_bytes().splitlines()]
    return hashlib.sha256(b"\n".join(line for line in lines if line and not line.lstrip().startswith(b"#"))).hexdigest()
