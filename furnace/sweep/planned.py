"""Which runs a sweep has, in which order, and which folder each writes into."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

from furnace.config.arguments import note, texts_of
from furnace.config.checks import check_start, without_effect
from furnace.config.completion import PLACEHOLDERS
from furnace.config.experiment import Experiment, read_experiment
from furnace.config.modules import Code
from furnace.config.recipe import read_recipe
from furnace.data.file_list import FileList
from furnace.engine.files import LONGEST_NAME
from furnace.errors import InputError
from furnace.sweep.jobs import Job
from furnace.sweep.varied import OPTION_OF, Value, read_list, read_varied


def planned_jobs(
    experiment_folder: str | Path, pairs: Sequence[str], lists: Mapping[str, str], vary: Sequence[str] = ()
) -> Iterator[Job]:
    """Yields a job for every combination of seed, ratio, method and varied values, in this order.

    So the first seed of everything comes first. What `vary` names stands in the name of a run's folder, and a seed
    other than 0. Where a snapshot_dir is set, each run has a folder of the same name below it.

    Args:
        experiment_folder: holds config.py and network.py.
        pairs: settings of all runs, as NAME=VALUE.
        lists: the values of `methods`, `ratios` and `seeds`, with commas between them.
        vary: other settings and their values, each as furnace.sweep.varied.read_varied takes it: NAME=V1,V2.

    Raises:
        InputError: a list or the settings of a run are bad, or two runs would write into one folder.
    """
    values = {option: read_list(option, text) for option, text in lists.items()}
    varied = read_varied(vary)
    options = {name: f"--{option}={lists[option]}" for name, option in OPTION_OF.items()}
    texts = _common_texts(pairs, options | {each[0].name: "--vary" for each in varied})
    folders: set[Path] = set()
    noted: set[tuple[str, str]] = set()
    looked_at: set[tuple] = set()  # networks, which take a second or two each
    open_list = cache(FileList)  # the runs share their lists, each of which is read, and its digest computed, only once
    choices = list(product(*varied))
    for seed, ratio, method, chosen in product(values["seeds"], values["ratios"], values["methods"], choices):
        own = {**texts, "method": method, "labeled_ratio": ratio, "seed": seed}
        own |= {value.name: value.text for value in chosen}
        experiment = read_experiment(experiment_folder, own)
        output = _output(experiment, own, chosen)
        given = experiment.settings
        snapshots = output if given.snapshot_dir == given.OUTPUT_PATH else given.snapshot_dir / output.name
        if shared := folders & {output, snapshots}:
            without = " and without {backbone}" if any(value.name == "backbone" for value in chosen) else ""
            raise InputError(
                f"OUTPUT_PATH: two runs would write to {shared.pop()}; leave it unset, or name it with "
                f"{{method}} and {{labeled_ratio}} in its last part{without}"
            )
        folders |= {output, snapshots}
        own |= {"OUTPUT_PATH": str(output), "snapshot_dir": str(snapshots)}
        experiment = replace(read_experiment(experiment_folder, own), open_list=open_list)
        networks = (experiment.settings.students, experiment.settings.image_size)
        check_start(experiment, with_networks=networks not in looked_at)
        looked_at.add(networks)
        for line in without_effect(experiment):
            if any(line.startswith(f"{value.name} ") for value in chosen) and (method, line) not in noted:
                noted.add((method, line))
                note(f"{method}: {line}")
        as_arguments = tuple(f"{name}={text}" for name, text in own.items())
        words = "".join(f" {value.name}={value.shown}" for value in chosen)
        title = f"{method} 1/{experiment.settings.labeled_ratio}{words} seed {seed}"
        yield Job(title, as_arguments, experiment, chosen)


def _common_texts(pairs: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that all runs have, from the environment and from NAME=VALUE arguments.

    Args:
        pairs: the arguments.
        options: for each setting that varies, the option that says how.

    Raises:
        InputError: an argument is bad, or gives one of the settings that vary.
    """
    texts = {name: text for name, text in texts_of(pairs).items() if text}
    given = [pair.partition("=")[0] for pair in pairs]
    for name, option in options.items():
        if name in given:
            pair = pairs[given.index(name)]
            if name in OPTION_OF:
                raise InputError(f"{pair}: a sweep has lists; say --{OPTION_OF[name]}")
            raise InputError(f"{pair}: --vary gives {name} its values; leave one of the two out")
        if texts.pop(name, None):
            note(f"{name} in the environment changes nothing: a sweep has {option}")
    return texts


def _output(experiment: Experiment, texts: Mapping[str, str], chosen: Sequence[Value]) -> Path:
    """Returns the folder of a run: its OUTPUT_PATH, with what --vary chose for it and its seed behind the name.

    What stands in the setting OUTPUT_PATH as {NAME} is in the name already.

    Raises:
        InputError: the folder has no name, or one that is too long for a file system.
    """
    settings = experiment.settings
    if not settings.OUTPUT_PATH.name:
        raise InputError(f"OUTPUT_PATH: expected a folder with a name, found {settings.OUTPUT_PATH}; name one below it")
    ending = "".join(value.in_folder for value in chosen if not _is_placed(value.name, experiment, texts))
    seed = f"_seed{settings.seed}" if settings.seed != 0 else ""
    name = f"{settings.OUTPUT_PATH.name}{ending}{seed}"
    if (length := len(os.fsencode(name))) > LONGEST_NAME:
        raise InputError(
            f"OUTPUT_PATH: expected a folder's name of at most {LONGEST_NAME} bytes, found {length} in {name}; "
            "shorten OUTPUT_PATH, or vary fewer settings at a time"
        )
    return settings.OUTPUT_PATH.with_name(name)


def _is_placed(name: str, experiment: Experiment, texts: Mapping[str, str]) -> bool:
    placeholder = f"{{{name}}}"
    if placeholder not in PLACEHOLDERS:
        return False
    pattern = texts.get("OUTPUT_PATH") or read_recipe(Code(experiment.folder)).defaults.get("OUTPUT_PATH", "")
    return placeholder in str(pattern)
