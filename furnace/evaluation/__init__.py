"""Scores of snapshots: windows over whole images, confusion matrices, log_df.csv, and pictures.

May import: config and all that stands below it.
Begin with: evaluate.py, which goes from snapshot to snapshot; validation.py is the pass over a list.
"""
