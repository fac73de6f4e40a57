"""The Python files of an experiment folder: how they find each other, and digests that tell whether they are the same.

A file there may import modules that lie beside it, whatever folder Python was started in. Experiments of one process
may have modules of the same names: those of one are hidden from Python while another one is in use.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from furnace.errors import InputError

MEND = "mend the file (debug=1 shows where)"


class Code:
    """The Python files of one experiment folder, of which nothing is imported yet."""

    _in_use: ClassVar["Code | None"] = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hidden: dict[str, ModuleType] = {}  # the folder's modules by name, while another one is in use

    def load(self, file: str, name: str) -> Any:
        """Runs one of the folder's files and returns the object `name` that it defines.

        Raises:
            InputError: there is no such file, it fails, or it defines no such object.
        """
        path = self.folder / file
        if not path.is_file():
            raise InputError(f"no experiment: {path} is missing; expected config.py and network.py side by side")
        self.use()
        spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
        assert spec is not None and spec.loader is not None  # because the file's name ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and torch.compile look for a class's module there
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            remedy = f"install what it needs, put its module into {self.folder}, or mend the file"
            raise InputError(f"{path}: {type(error).__name__}: {error}; {remedy}") from error
        except (Exception, SystemExit) as error:  # whatever a user's file raises
            raise InputError(f"{path}: {type(error).__name__}: {error}; {MEND}") from error
        if not hasattr(module, name):
            raise InputError(f"{path} defines no {name}; expected one, as in exp.voc/ensemble_teacher+cutmix")
        return getattr(module, name)

    def use(self) -> None:
        """Lets Python find the modules of this folder, and those of no other experiment."""
        if Code._in_use is self:
            return
        if other := Code._in_use:
            other._hidden = other._imported()
            for name in other._hidden:
                del sys.modules[name]
            if str(other.folder) in sys.path:
                sys.path.remove(str(other.folder))
        sys.path.insert(0, str(self.folder))
        sys.modules.update(self._hidden)
        importlib.invalidate_caches()
        Code._in_use = self

    def digests(self) -> dict[str, str]:
        """Returns the SHA-256 of every file of the folder that has been imported, by its path in the folder.

        Blank lines, lines that are comments, and the system's ends of lines do not count.
        """
        self.use()
        paths = {Path(_place_of(module)) for module in self._imported().values()}
        return {path.relative_to(self.folder).as_posix(): _digest(path) for path in sorted(paths) if path.is_file()}

    def changes(self, before: Mapping[str, str]) -> list[str]:
        """Says of each file that decides results and had another digest `before`, or is gone, that it has changed.

        config.py is not among them: its settings are compared themselves.
        """
        now = {name: self.folder / name for name in before if name != "config.py"}
        return [
            f"{name} has changed" for name, path in now.items() if not path.is_file() or _digest(path) != before[name]
        ]

    def _imported(self) -> dict[str, ModuleType]:
        """Returns the modules that Python holds of this folder; an environment in the folder is no part of it."""
        found = {}
        for name, module in list(sys.modules.items()):
            place, is_library = _place_of(module), name.partition(".")[0] == "furnace"
            if place.startswith(f"{self.folder}/") and "/site-packages/" not in place and not is_library:
                found[name] = module
        return found


def _place_of(module: ModuleType) -> str:
    """Returns the path of a module's file, or of its folder if it has no file; empty for what is built in."""
    attributes = getattr(module, "__dict__", {})  # asked directly, some modules would import others
    return str(attributes.get("__file__") or next(iter(attributes.get("__path__") or ()), ""))


def _digest(path: Path) -> str:
    lines = [line.rstrip() for line in path.read_bytes().splitlines()]
    return hashlib.sha256(b"\n".join(line for line in lines if line and not line.lstrip().startswith(b"#"))).hexdigest()
