#!/usr/bin/env bash
# Scores snapshots and adds rows to log_df.csv: ensemble=v3 bash eval.sh, eval_epochs=all bash eval.sh
# Settings, such as whose run it is, are those of ../ensemble_teacher+cutmix/eval.sh, which runs in this folder.
set -euo pipefail
set -a

: "${batch_size:=4}"
: "${eval_scales:=0.75}"          # the largest size of images in training
: "${OUTPUT_PATH:=}"              # empty: ../../output_camvid/camvid8_DeepLabV3Plus-tf_efficientnet_lite0_cutmix_B4_EMA

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/../ensemble_teacher+cutmix/eval.sh"
