"""Small data sets made on the spot, in which form, texture and place tell the classes, never colour.

May import: errors, labels, engine (files), data.
Begin with: layout.py, which writes a data set; shapes.py draws its objects, street.py its streets.
"""
