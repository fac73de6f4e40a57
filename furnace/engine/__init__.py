"""Processes and files, whatever the method: ranks, devices, signals, snapshots, files that appear whole.

May import: errors, network (to fill one from a file). torch.distributed is imported here alone.
Begin with: distributed.py for processes (`World`), checkpoint.py for files (`Snapshots`).
"""
