"""The study's CamVid: the recipe of exp.camvid, also with all labels."""

from easydict import EasyDict

config = EasyDict(
    base="../../../../exp.camvid/ensemble_teacher+lite0",
    volna="../../../..",
    epochs=((32, 10), (16, 10), (8, 11), (1, 10)),  # about 900 iterations each
    atrous_rates=None,  # as its first runs had them
    OUTPUT_PATH="../../../../output_study/camvid{labeled_ratio}_{method}",
    pretrained_model="{volna}/DATA/pytorch-weight/tf_efficientnet_lite0.pth",
)
