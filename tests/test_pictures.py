"""Labels as colours, and pictures side by side."""

import numpy as np

from furnace.pictures import colourize, panel


def test_colours_and_panel() -> None:
    label = np.array([[0, 1], [255, 1]], dtype=np.uint8)
    colours = colourize(label, [(1, 2, 3), (4, 5, 6)])
    assert colours[0, 1].tolist() == [4, 5, 6] and colours[1, 0].tolist() == [224, 224, 192]
    sheet = panel([[colours, colours]], ["one", "two"])
    assert sheet.dtype == np.uint8 and (sheet == [4, 5, 6]).all(axis=2).sum() == 4
