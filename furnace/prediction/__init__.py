"""What a trained run is used for: label maps of own images, and files for other programs.

May import: evaluation and all that stands below it.
Begin with: trained.py, which finds the run; then predict.py or export.py.
"""
