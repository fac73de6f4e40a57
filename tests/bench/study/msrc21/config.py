"""The study's MSRC-21: 335 training and 256 validation photographs of about 320 x 213 pixels, 21 classes.

Pixels that have no label in MSRC-21 are ignored. All else is that of the study's CamVid. The data set is made by
`python -m furnace prepare folder` with the classes.csv of this folder (docs/study.md).
"""

from easydict import EasyDict

config = EasyDict(
    base="../camvid",
    dataset="msrc21",
    lists_path="lists",
    train_scales=(0.75, 0.85, 1.0),  # smaller images would not fill a crop
    atrous_rates=(2, 4, 6),  # the deepest feature has 10 x 10 pixels
    epochs=((16, 11), (8, 12), (4, 14), (1, 11)),  # about 900 iterations each
    OUTPUT_PATH="../../../../output_study/msrc21_{labeled_ratio}_{method}",
)
