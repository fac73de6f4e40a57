"""Ensemble Teacher: semi-supervised semantic segmentation with teachers' cross pseudo supervision."""

__version__ = "0.1.0"
