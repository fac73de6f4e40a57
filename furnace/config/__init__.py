"""What a run is asked to do: settings and an experiment folder, checked before a device is touched.

May import: errors, labels, network, semi, engine, data.
Begin with: experiment.py, where a folder and the environment become an `Experiment`.
"""
