"""Many runs of one experiment: methods, ratios, seeds and other settings, one by one, several at once, or on Slurm.

May import: every room below.
Begin with: planned.py, which says which runs there are; jobs.py says what one is, pool.py runs several at once.
"""
