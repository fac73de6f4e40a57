"""What a data set is: its lists, its files decoded, weak and strong views, and streams of samples.

May import: errors, labels, engine (files and signals). It knows no network and no method.
Begin with: samples.py, which makes one training batch; datasets.py declares VOC, Cityscapes and CamVid.
"""
