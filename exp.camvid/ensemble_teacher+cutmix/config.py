"""CamVid: 367 training and 101 validation street scenes of 480 x 360 pixels, 11 classes; trained from random weights.

This is the worked example of a data set that is neither VOC nor Cityscapes. It consists of a declaration in
furnace/data/datasets.py, of lists that `python -m furnace prepare camvid` draws, and of this file. Every value below is
the default of the environment variable of the same name.
"""

from easydict import EasyDict

from furnace.data.datasets import CAMVID

config = EasyDict(
    dataset=CAMVID,
    lists_path="lists",
    epochs=((32, 120), (16, 120), (8, 120), (4, 120), (2, 160)),  # by labeled_ratio, unless nepochs is set
    OUTPUT_PATH="../../output_camvid/camvid{labeled_ratio}_{backbone}_cutmix_B{batch_size}_{method}",
    pretrained_model="none",
    image_size=360,
    train_scales=(0.5, 0.75, 1, 1.25, 1.5, 2),
    batch_size=8,
    learning_rate=0.05,
    weight_decay=2e-4,
    cps_weight=1,
    cps_ramp=(0.3, 0.6),  # starting from random weights, the first pseudo-labels are noise
    validate_epochs=10,
)
