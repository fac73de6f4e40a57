"""PASCAL VOC 2012 with the augmented training set: 10,582 training and 1,449 validation images, 21 classes.

Every value is the default of the environment variable of the same name; furnace/config/settings.py explains them all.
"""

from easydict import EasyDict

from furnace.data.datasets import VOC

config = EasyDict(
    dataset=VOC,
    epochs=((16, 32), (8, 34), (4, 40), (2, 60)),  # by labeled_ratio, unless nepochs is set
    OUTPUT_PATH="../../output_voc/voc{labeled_ratio}_{backbone}_cutmix_B{batch_size}_{method}",
    pretrained_model="{volna}/DATA/pytorch-weight/resnet50_v1c.pth",
    image_size=512,
    train_scales=(0.5, 0.75, 1, 1.5, 1.75, 2),
    batch_size=8,
    learning_rate=0.0025,
    weight_decay=2e-4,  # published: 1e-4, which counted twice as much because the gradients beside it were halved
    cps_weight=1,
    validate_epochs=4,
)
