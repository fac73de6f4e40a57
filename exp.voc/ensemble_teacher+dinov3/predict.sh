#!/usr/bin/env bash
# Labels images: bash predict.sh photos/ more/*.jpg; relative paths are meant from where you are, not from here.
# Options (--out FOLDER --probabilities --disagreement): bash predict.sh --help
# Settings, such as whose run it is, are those of ../ensemble_teacher+cutmix/predict.sh, which runs in this folder.
set -euo pipefail
set -a

: "${OUTPUT_PATH:=}"              # empty: ../../output_voc/voc8_DPT-vit_base_patch16_dinov3_cutmix_B8_EMA

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/../ensemble_teacher+cutmix/predict.sh"
