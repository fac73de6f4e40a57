"""The network of students and teachers, and how files of weights are recognised and read.

May import: errors.
Begin with: deeplabv3plus.py, then resnet.py; pretrained.py fills a network from a file.
"""
