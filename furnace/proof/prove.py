"""`python -m furnace prove`: the promises, in the order in which they are tried, and the table that is printed.

Every promise is tried by the program's own code: the Learner takes the steps, the Trainer trains, the commands
evaluate, predict and export. Nothing that is written stays.
"""

import gc
import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from furnace.engine.place import find_place
from furnace.errors import EXIT_FAILED, InputError, in_short
from furnace.proof import many_processes, one_step, whole_runs
from furnace.proof.ground import Ground
from furnace.proof.outcome import BrokenPromiseError, NotHereError
from furnace.proof.predictors import label_as_on_a_cpu


class Promise(NamedTuple):
    """What the program promises, and how that is tried."""

    words: str
    attempt: Callable[[Ground], str]  # returns what was found; raises BrokenPromiseError or NotHereError


PROMISES = (
    Promise(
        "Ensemble Teacher's fp32 steps are float64's", partial(one_step.equal_to_float64, changed={"method": "ema"})
    ),
    Promise("CPS's fp32 steps are float64's", partial(one_step.equal_to_float64, changed={"method": "org"})),
    Promise("fp32 steps with OHEM are float64's", one_step.equal_with_ohem),
    Promise("bf16 losses are near fp32's, and fall", partial(one_step.half_precision, precision="bf16")),
    Promise("fp16 losses are near fp32's, and fall", partial(one_step.half_precision, precision="fp16")),
    Promise("channels_last=0 changes no loss", partial(one_step.same_losses, changed={"channels_last": "0"})),
    Promise("skip_nonfinite leaves a bad step out", one_step.poisoned_batch_left_out),
    Promise("a step reads nothing back", one_step.nothing_read_back),
    Promise("200 steps take no more memory than 50", one_step.no_more_memory),
    Promise("a group of one takes the same steps", many_processes.group_takes_the_step_of_one),
    Promise("deterministic=1 repeats every bit", whole_runs.repeats),
    Promise("a stopped run goes on to the same bits", whole_runs.goes_on),
    Promise("all seven predictors label as on a CPU", label_as_on_a_cpu),
    Promise("an evaluation scores as training did", whole_runs.scores_of_validation),
    Promise("a prediction labels as the evaluation", whole_runs.predicts_as_evaluated),
    Promise("an export holds the snapshot's weights", whole_runs.exports_the_snapshot),
    Promise("two processes follow one", many_processes.two_follow_one),
    Promise("a killed process ends the other", many_processes.none_outlives_another),
    Promise("compile=1 changes no loss", one_step.same_losses_compiled),
)
LINES = 20  # of what a run said, or of a traceback, behind a row that failed
WIDTH = max(len(promise.words) for promise in PROMISES)


def prove(experiment: Path, texts: Mapping[str, str], only: str = "") -> int:
    """Tries every promise whose words contain `only`, prints a row for each, and returns the exit status.

    Args:
        experiment: the folder of the experiment that promises are tried on.
        texts: settings, as `read_experiment` takes them; NGPUS says which device is used.

    Raises:
        InputError: a setting is bad, or this is one of several processes.
    """
    chosen = [promise for promise in PROMISES if only.lower() in promise.words.lower()]
    if not chosen:
        known = "; ".join(promise.words for promise in PROMISES)
        raise InputError(f"--only: no promise contains {only!r}; expected words of one of: {known}")
    if find_place().launched:
        raise InputError("prove: torchrun has started this process; expected one process, which starts others itself")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for what repeats; read when cuBLAS is first used
    with TemporaryDirectory(prefix="furnace-prove-", ignore_cleanup_errors=True) as folder:
        ground = Ground(Path(folder), experiment, texts, only)
        print(ground.description(), flush=True)
        begun = time.monotonic()
        ends = [_try(promise, ground) for promise in chosen]
    counts = {end: ends.count(end) for end in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {end}" for end, count in counts.items()) + f" in {time.monotonic() - begun:.0f} s")
    return EXIT_FAILED if counts["failed"] else 0


def _try(promise: Promise, ground: Ground) -> str:
    """Tries a promise, prints its row, and returns the row's first word."""
    gc.collect()  # networks of the promises before, or their memory would be missing for this one
    begun, said, trace = time.monotonic(), StringIO(), ""
    try:
        with redirect_stdout(said), redirect_stderr(said):
            end, found = "passed", promise.attempt(ground)
    except NotHereError as reason:
        end, found = "skipped", str(reason)
    except (BrokenPromiseError, InputError) as fault:
        end, found = "failed", str(fault)
    except Exception as error:  # whatever goes wrong on a machine that nobody has seen yet
        end, found, trace = "failed", in_short(error), traceback.format_exc()
    print(f"{end:<8}{time.monotonic() - begun:6.1f} s  {promise.words:<{WIDTH}}  {found}", flush=True)
    if end == "failed":
        for line in [*said.getvalue().splitlines(), *trace.splitlines()][-LINES:]:
            print(f"        {line}", flush=True)
    return end
