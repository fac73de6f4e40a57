#!/usr/bin/env bash
# Scores snapshots and adds rows to log_df.csv: ensemble=v3 bash eval.sh, eval_epochs=all bash eval.sh
# Settings, such as whose run it is, are those of ../ensemble_teacher+cutmix/eval.sh, which runs in this folder.
set -euo pipefail
set -a

: "${OUTPUT_PATH:=}"              # empty: ../../output_city/city8_DPT-vit_base_patch16_dinov3_cutmix_B4_EMA

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/../ensemble_teacher+cutmix/eval.sh"
