"""Whether loading or the network limits a run: images that a step wants in a second, and those that workers make."""

import time
from itertools import count
from math import ceil
from statistics import median

import cv2

from furnace.doctor.arithmetic import Part, said_seconds
from furnace.doctor.finding import NOTE, OK, Finding
from furnace.doctor.made_data import DECODED
from furnace.doctor.one_process import OneProcess, Work, made

FEWEST = 3  # batches that are timed
UNSEEN = 10_000  # an iteration whose images no step has shown just before


def load_seconds(process: OneProcess, work: Work, budget: float) -> float:
    """Returns the seconds in which one loading worker makes a batch of the process, with all cores idle beside it.

    Raises:
        InputError: a file is bad.
    """
    samples, threads, seconds = process.samples(work.with_pairs, process.share), cv2.getNumThreads(), []
    if process.workers:
        cv2.setNumThreads(0)  # as in a worker
    try:
        end = time.perf_counter() + budget
        for iteration in count(UNSEEN):
            begun = time.perf_counter()
            made(samples, iteration)
            seconds.append(time.perf_counter() - begun)
            if len(seconds) >= FEWEST and time.perf_counter() > end:
                return median(seconds)
    finally:
        cv2.setNumThreads(threads)
    raise AssertionError("unreachable: count has no end")


def limit(process: OneProcess, part: Part) -> Finding:
    """Returns whether loading or the network is the limit of the iterations of a part, and what changes it."""
    workers, cores = process.workers, process.cores
    wanted, by_one = part.images / part.step, part.images / part.load
    by_all = by_one * min(max(1, workers), cores)
    figures = {
        "images_a_step": part.images,
        "images_per_second_wanted": wanted,
        "images_per_second_by_one_worker": by_one,
        "images_per_second_by_all_workers": by_all,
        "workers": workers,
        "cores": cores,
    }
    each = f" in each of {process.here} processes" if process.here > 1 else ""
    least = "at least " if process.tries_more else ""  # because its own step may take less time than the one tried
    rates = f"a step wants {least}{wanted:.3g} images/s{each}, one worker makes {by_one:.3g}"
    if workers == 0:
        share = part.load / (part.step + part.load)
        found = (
            f"{rates}; without workers each step waits {said_seconds(part.load)} for its batch, {share:.0%} of the time"
        )
        figures["waiting_share"] = share
        if share < 0.1 or cores < 2:
            return Finding(OK, "loading", found, "", figures)
        return Finding(NOTE, "loading", found, "set num_workers=1 or more, if cores are idle", figures)
    found = f"{rates}, {workers} on {cores} cores {by_all:.3g}"
    if by_all >= wanted:
        return Finding(OK, "loading", f"{found}: the network is the limit, data is there in time", "", figures)
    enough = ceil(wanted / by_one)
    remedies = []
    if workers < cores:
        remedies.append(f"set num_workers={min(cores, enough)}")
    if process.experiment.split("labeled").image_path(0).suffix != DECODED:
        remedies.append("store images decoded (`python -m furnace prepare ... --files decoded`)")
    if enough > cores:
        remedies.append(f"give it {enough * process.here} cores")
    return Finding(NOTE, "loading", f"{found}: data is the limit", ", or ".join(remedies), figures)
