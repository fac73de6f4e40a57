#!/usr/bin/env bash
# Ensemble Teacher on Cityscapes with DINOv3: EMA teachers label, students see the strong view.
# What differs from ../ensemble_teacher+cutmix/train_ema.sh stands here; that script shows the other settings, and runs
# in this folder. Every setting is an environment variable: change its default here, or set it outside
# (labeled_ratio=16 confidence=0.8 bash train_ema.sh).
set -euo pipefail
set -a

: "${method:=ema}"                # supervised, org, ema
: "${decoder:=DPT}"               # of segmentation_models_pytorch
: "${backbone:=tu-vit_base_patch16_dinov3.lvd1689m}"  # tu-: an encoder of timm
: "${pretrained_model:=hub}"      # or a file, or none
: "${optimizer:=adamw}"
: "${learning_rate:=2e-4}"        # of the decoder
: "${backbone_rate_factor:=0.025}"  # the encoder's rate is 5e-6
: "${learning_rate_factor:=1}"    # the neighbour halves its rate
: "${weight_decay:=0.01}"
: "${confidence:=0.95}"           # pseudo-labels of a lower probability are not learned from; 0: all are
: "${OUTPUT_PATH:=}"              # empty: ../../output_city/city8_DPT-vit_base_patch16_dinov3_cutmix_B4_EMA, or _CPS

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/../ensemble_teacher+cutmix/train_ema.sh"
