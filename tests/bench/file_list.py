"""What long lists cost: opening, memory, reading an entry, shuffling; at 1 thousand to 10 million lines.

    python -m tests.bench.file_list

Makes its lists in a temporary folder (700 MB) and takes about a minute. Memory is measured in a fresh process for each
figure, times that are compared in turn in one process; every time is a median. The last line is one JSON object: for
the lists of 10 million the larger of the two figures, times as ratios to those at 1 thousand.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from furnace.data.file_list import FileList, Shuffled
from tests.bench.measure import MEGABYTE, REPOSITORY, markdown, process_bytes, seconds

LONG_NAME = "train/image/a_city_somewhere__{:010d}_left.jpg\n"  # 50 bytes a line
SHORT_NAME = "{:011d}\n"  # 12 bytes
LISTS = {
    "1 thousand": (1_000, LONG_NAME),
    "100 thousand": (100_000, LONG_NAME),
    "1 million": (1_000_000, LONG_NAME),
    "10 million": (10_000_000, LONG_NAME),
    "10 million, short": (10_000_000, SHORT_NAME),
}
LARGEST = tuple(LISTS)[-2:]
TURNS = 15
READINGS = 2_000  # in each turn
BATCH, STREAMS = 8, 3
WORKERS, READ_BY_WORKER = 4, 1_000


def write_list(path: Path, count: int, line: str) -> Path:
    with open(path, "w") as file:
        for first in range(0, count, 100_000):
            file.write("".join(line.format(number) for number in range(first, min(count, first + 100_000))))
    return path


def opening(path: Path) -> dict[str, float]:
    """Seconds to read the file once, and to open it as a list."""
    turns = [(seconds(path.read_bytes), seconds(lambda: FileList(path))) for _ in range(TURNS)]
    read, opened = (median(times) for times in zip(*turns, strict=True))
    return {"read": read, "open": opened}


def memory(path: Path) -> dict[str, float]:
    """Bytes that this process grew by: while the list was opened at most, and afterwards."""
    before = process_bytes("VmRSS")
    files = FileList(path)
    after, peak = process_bytes("VmRSS"), process_bytes("VmHWM")
    return {"memory": after - before, "peak": peak - before, "entries": len(files)}


def reading(*paths: Path) -> list[dict[str, float]]:
    """For each list, seconds an entry at random, a place of a shuffled epoch, and the first batch of another epoch."""
    lists = [FileList(path) for path in paths]
    orders = [[Shuffled(len(files), 0, stream) for stream in range(STREAMS)] for files in lists]
    random = np.random.default_rng(0)
    turns = []
    for turn in range(TURNS):
        for files, streams in zip(lists, orders, strict=True):
            numbers = random.integers(len(files), size=READINGS).tolist()
            first_batch = seconds(lambda: _entries_of_first_batch(files, streams, epoch=turn))  # noqa: B023
            entry = seconds(lambda: [files[number] for number in numbers]) / READINGS  # noqa: B023
            places = range(BATCH, BATCH + min(READINGS, len(files) - BATCH))  # of the epoch that has begun
            shuffled = seconds(lambda: [streams[0](turn, place) for place in places]) / len(places)  # noqa: B023
            turns.append({"entry": entry, "shuffled": shuffled, "first_batch": first_batch})
    by_list = (turns[number :: len(lists)] for number in range(len(lists)))
    return [{name: median(turn[name] for turn in several) for name in several[0]} for several in by_list]


def _entries_of_first_batch(files: FileList, streams: list[Shuffled], epoch: int) -> list[str]:
    return [files[order(epoch, place)] for place in range(BATCH) for order in streams]


def workers(path: Path) -> dict[str, float]:
    """Bytes that a forked worker has for itself after it read entries, the mean over workers that run together."""
    files = FileList(path)
    context = multiprocessing.get_context("fork")
    together, answers = context.Barrier(WORKERS), context.SimpleQueue()

    def work(worker: int) -> None:
        orders = [Shuffled(len(files), 0, stream) for stream in range(STREAMS)]
        for place in range(READ_BY_WORKER):
            files[orders[place % STREAMS](0, worker * READ_BY_WORKER + place)]
        together.wait()  # pages that nobody else has read would count as private
        private = sum(process_bytes(f"Private_{kind}", "smaps_rollup") for kind in ("Clean", "Dirty"))
        answers.put((private, process_bytes("Pss", "smaps_rollup")))
        together.wait()

    processes = [context.Process(target=work, args=(worker,)) for worker in range(WORKERS)]
    for process in processes:
        process.start()
    private, proportional = zip(*(answers.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    return {"private": sum(private) / WORKERS, "proportional": sum(proportional) / WORKERS}


MEASURES = {measure.__name__: measure for measure in (opening, memory, reading, workers)}


def in_fresh_process(measure: Callable, *paths: Path):
    arguments = [sys.executable, "-m", "tests.bench.file_list", measure.__name__, *map(str, paths)]
    return json.loads(subprocess.run(arguments, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout)


def measure_all(folder: Path) -> dict[str, dict[str, float]]:
    """Every figure of every list, by the list's name."""
    paths = [write_list(folder / f"{number}.txt", *LISTS[name]) for number, name in enumerate(LISTS)]
    times = in_fresh_process(reading, *paths)
    found = {}
    for name, path, reading_times in zip(LISTS, paths, times, strict=True):
        found[name] = {"size": path.stat().st_size, **reading_times}
        for measure in (opening, memory, workers):
            found[name] |= in_fresh_process(measure, path)
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    header = [
        "lines",
        "file MB",
        "read once, ms",
        "open, ms",
        "open / read",
        "memory / file",
        "peak / file",
        "entry, us",
        "shuffled place, us",
        "first batch of an epoch, ms",
        "private MB a worker",
    ]
    rows = []
    for name, row in found.items():
        size = row["size"]
        large = size > 10 * MEGABYTE  # below, what Python itself takes decides
        share = [f"{row[kind] / size:.2f}" if large else "-" for kind in ("memory", "peak")]
        cells = [
            name,
            f"{size / MEGABYTE:.3g}",
            f"{1e3 * row['read']:.3g}",
            f"{1e3 * row['open']:.3g}",
            f"{row['open'] / row['read']:.1f}",
            *share,
            f"{1e6 * row['entry']:.2f}",
            f"{1e6 * row['shuffled']:.2f}",
            f"{1e3 * row['first_batch']:.2f}",
            f"{row['private'] / MEGABYTE:.1f}",
        ]
        rows.append(cells)
    return markdown(header, rows)


def ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    large, small = [found[name] for name in LARGEST], found["1 thousand"]
    values = {
        "open_over_read": max(row["open"] / row["read"] for row in large),
        "memory_over_file": max(row["memory"] / row["size"] for row in large),
        "peak_over_file": max(row["peak"] / row["size"] for row in large),
        "entry_time_10m_over_1k": max(row["entry"] for row in large) / small["entry"],
        "shuffle_time_10m_over_1k": max(row["shuffled"] for row in large) / small["shuffled"],
        "worker_private_over_file": max(row["private"] / row["size"] for row in large),
    }
    return {name: round(value, 3) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", nargs="?", choices=MEASURES, help="one of them alone, printed as JSON")
    parser.add_argument("lists", nargs="*", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure](*options.lists)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure_all(Path(folder))
    print(table(found))
    print(json.dumps(ratios(found)))


if __name__ == "__main__":
    main()
