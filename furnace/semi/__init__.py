"""THE METHOD: two students, their EMA teachers, CutMix, cross pseudo supervision, and the losses.

May import: errors, labels. It knows no files, no data set and no processes.
Begin with: cross_supervision.py: its docstring states the equations, and each is one line below.
"""
