"""A training run: the loop, one step, schedules, resuming, and what is told and shown meanwhile.

May import: evaluation (for scores while it trains) and all that stands below it.
Begin with: trainer.py, the loop as named steps; learner.py is one step.
"""
