"""The study's plots: the scores of every run, and their means."""

from collections import Counter
from pathlib import Path

from furnace.report.plotting import BLACK, BLUE, ORANGE, styled, svg_text
from tests.bench.study.plan import CPS, ENSEMBLE_TEACHER, SUPERVISED, Part
from tests.bench.study.tables import BOTH, AllKept, over_seeds, reading

REPOSITORY = Path(__file__).resolve().parents[3]
COLOURS = {SUPERVISED: BLACK, CPS: BLUE, ENSEMBLE_TEACHER: ORANGE}
WIDTH, ROW = 3.6, 0.27  # inches: of a plot, and of one of its rows


def draw(part: Part, kept: AllKept, folder: Path = REPOSITORY / "docs/images") -> None:
    """Writes `study_<part>.svg`: a plot for each place, a row for each cell, a dot for each run, a bar for the mean.

    Left out are cells without a run, and places where fewer than two cells have one; without any there is no plot.
    """
    from matplotlib.figure import Figure

    trained = [cell for cell in part.cells if over_seeds(kept, cell)]
    counts = Counter(cell.place for cell in trained)
    places = [place for place, count in counts.items() if count > 1]
    if not places:
        return
    rows = max(counts[place] for place in places)
    across = min(2, len(places))
    down = -(-len(places) // across)
    with styled({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(WIDTH * across, (0.75 + ROW * rows) * down), layout="constrained")
        for number, place in enumerate(places):
            axes = figure.add_subplot(down, across, number + 1)
            cells = [cell for cell in trained if cell.place == place]
            for row, cell in enumerate(cells):
                found = over_seeds(kept, cell).values()
                scores = [reading(each, cell, BOTH) for each in found]
                axes.plot(scores, [row] * len(scores), "o", color=COLOURS[cell.method], alpha=0.6, markeredgewidth=0)
                average = sum(scores) / len(scores)
                axes.plot([average, average], [row - 0.3, row + 0.3], color=COLOURS[cell.method], linewidth=2)
            axes.set_yticks(range(len(cells)), [cell.title for cell in cells])
            axes.set_ylim(len(cells) - 0.5, -0.5)
            axes.margins(x=0.1)
            axes.tick_params(axis="y", length=0)
            axes.set_title(place, fontsize=9)
        figure.supxlabel("mean IoU, percent, two networks together", fontsize=8)
        (folder / f"study_{part.name.lower()}.svg").write_text(svg_text(figure), encoding="utf-8")
