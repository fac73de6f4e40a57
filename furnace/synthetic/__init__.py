"""Small data sets made on the spot, so that the whole program runs with no download.

    layout.py     the two layouts, and what is promised of both
    shapes.py     VOC: five kinds of object on a textured ground
    street.py     Cityscapes: toy streets with all nineteen classes
    drawing.py    what both scenes are drawn with

All colours come from one distribution, so colour says nothing: a class is its form, its texture and its place.
"""
