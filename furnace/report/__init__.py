"""Runs, their scores and pictures as one HTML page, made of files alone, also of damaged ones.

May import: evaluation and all that stands below it, but no network.
Begin with: compose.py, which goes from folders to the page; runs.py reads one run, page.py writes the page.
"""
