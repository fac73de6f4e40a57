"""Cityscapes: 2,975 training and 500 validation street scenes of 2048 x 1024 pixels, 19 classes.

Values are defaults of the environment variables of the same names, which furnace/config/settings.py explains.
"""

from easydict import EasyDict

from furnace.data.datasets import CITYSCAPES

config = EasyDict(
    dataset=CITYSCAPES,
    epochs=((16, 64), (8, 68), (4, 80), (2, 120)),  # by labeled_ratio, unless nepochs is set
    OUTPUT_PATH="../../output_city/city{labeled_ratio}_{backbone}_cutmix_B{batch_size}_{method}",
    pretrained_model="{volna}/DATA/pytorch-weight/resnet50_v1c.pth",
    image_size=800,
    train_scales=(0.5, 0.75, 1, 1.5, 1.75, 2),
    batch_size=4,
    learning_rate=0.02,
    learning_rate_factor=0.5,  # the published code divided its losses by its two processes once more than the mean does
    weight_decay=2e-4,  # published: 1e-4, but the gradients beside it were halved, so that it counted twice as much
    cps_weight=5,
    ohem_threshold=0.7,
    ohem_min_kept=50000,  # pixels, for each image of a process
    validate_epochs=8,
    validate_images=100,
)
