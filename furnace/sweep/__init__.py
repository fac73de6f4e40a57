"""Many runs of one experiment: methods, ratios and seeds, here or on Slurm.

May import: every room below.
Begin with: jobs.py, which says what a run is and whether it is done.
"""
