#!/usr/bin/env bash
# Labels images: bash predict.sh photos/ more/*.jpg; relative paths are meant from where you are, not from here.
# Options (--out FOLDER --probabilities --disagreement): bash predict.sh --help
# Settings, such as whose run it is, are those of ../ensemble_teacher+cutmix/predict.sh, which runs in this folder.
set -euo pipefail
set -a

: "${batch_size:=4}"
: "${eval_scales:=0.75}"          # the largest size of images in training
: "${OUTPUT_PATH:=}"              # empty: ../../output_camvid/camvid8_DeepLabV3Plus-tf_efficientnet_lite0_cutmix_B4_EMA

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/../ensemble_teacher+cutmix/predict.sh"
