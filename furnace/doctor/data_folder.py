"""What lies in the folder DATA: prepared data sets, by their declarations and lists, and files of weights."""

from collections.abc import Iterator
from pathlib import Path

from furnace.data.datasets import Dataset
from furnace.data.entries import Split, is_there
from furnace.doctor.finding import NOTE, OK, Finding, of_error
from furnace.doctor.wanted import Wanted
from furnace.engine.memory import said
from furnace.errors import InputError, because
from furnace.network.recognize import recognize
from furnace.network.weight_files import tensors_in
from furnace.prepare.check import dataset_of
from furnace.prepare.listed import find_lists

WEIGHTS = "pytorch-weight"
SMALL = 1e6  # bytes of a file that is read whole: a pointer of Git LFS or a web page in place of weights
ZIP = b"PK\x03\x04"  # how files of torch.save begin; of them, the names and shapes of tensors are read alone
NO_LISTS = "no list in "  # how the error begins that `find_lists` raises where there is none
MAKE = "make one: python -m furnace prepare --help; or toy images: python -m furnace demo-data DATA/demo"


def data_sets(wanted: Wanted) -> Iterator[Finding]:
    """Every folder that should hold a data set. No image is opened."""
    folders = [path for path in sorted(wanted.data.glob("[!.]*")) if path.is_dir() and path.name != WEIGHTS]
    if not folders:
        yield Finding(NOTE, "data", f"no data set lies in {wanted.data}", MAKE)
    for folder in folders:
        subject = f"data {folder.name}"
        try:
            yield _data_set(subject, dataset_of(folder), folder)
        except InputError as error:
            yield of_error(NOTE, subject, error)


def _data_set(subject: str, dataset: Dataset, folder: Path) -> Finding:
    words = f"{dataset.name}, {dataset.num_classes} classes"
    try:
        lists = find_lists(dataset, folder, folder)
    except InputError as error:
        if not str(error).startswith(NO_LISTS):
            raise
        return Finding(OK, subject, f"{words}, without lists of its own (an experiment may name others: lists_path)")
    for _, split in lists.values():
        if fault := _first_missing(split):
            return Finding(NOTE, subject, fault, "mend the list, or prepare the data set again")
    figures = {name: len(split.files) for name, (_, split) in lists.items()}
    return Finding(OK, subject, f"{words}; {', '.join(f'{name}: {n:,}' for name, n in figures.items())}", "", figures)


def _first_missing(split: Split) -> str | None:
    """Says that the first image of a list is not there; all entries of a list have one form, so that one look tells."""
    if len(split.files) and not is_there(path := split.image_path(0)):
        return split.describe_missing(0, path)
    return None


def weights(wanted: Wanted) -> Iterator[Finding]:
    """Every file of weights: what is recognised in it. Nothing is said where there is none, which is no fault."""
    for path in sorted((wanted.data / WEIGHTS).glob("[!.]*")):
        if not path.is_file():
            continue
        subject, size = f"weights {path.name}", path.stat().st_size
        try:
            if size > SMALL and not _is_zip(path):
                yield Finding(OK, subject, f"{said(size)}, not looked into")
                continue
            state, _ = tensors_in(path)
        except (InputError, OSError) as error:
            yield of_error(NOTE, subject, error if isinstance(error, InputError) else because(error))
            continue
        try:
            yield Finding(OK, subject, recognize(state, path).words)
        except InputError:  # encoders of the library have names of all kinds
            yield Finding(OK, subject, f"{len(state)} tensors, of no ResNet that decoder=published knows")


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(ZIP)) == ZIP
