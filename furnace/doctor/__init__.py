"""A machine known before the run: what would stop or slow one, and what a whole run will take.

May import: everything but proof, sweep and __main__.
Begin with: command.py (what is asked of it), examination.py (of a machine), estimate.py (of a run).
"""
