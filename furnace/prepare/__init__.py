"""Downloads and own data become folders in DATA: sources, plans, masks, lists, and a check.

May import: errors, labels, engine (files), data.
Begin with: build.py, which makes a folder from a plan; official.py and own.py make the plans.
"""
