#!/usr/bin/env bash
# Ensemble Teacher on CamVid with EfficientNet-Lite0: EMA teachers label, students see the strong view.
# What differs from ../ensemble_teacher+cutmix/train_ema.sh stands here; that script shows the other settings, and runs
# in this folder. The settings of pseudo-labels (cps_weight, label_temperature, distribution_alignment, teacher_norm,
# cutmix_boxes) stand in config.py, because a supervised run has no use for them. Every setting is an environment
# variable: change its default here, or set it outside (labeled_ratio=16 seed=1 bash train_ema.sh).
set -euo pipefail
set -a

: "${method:=ema}"                # supervised, org, ema
: "${decoder:=DeepLabV3Plus}"     # of segmentation_models_pytorch
: "${backbone:=tu-tf_efficientnet_lite0}"  # tu-: an encoder of timm
: "${pretrained_model:=hub}"      # or a file, or none
: "${backbone_norm:=frozen}"      # batch: small batches give poor statistics
: "${image_size:=160}"            # side of the crop
: "${batch_size:=4}"
: "${optimizer:=adamw}"
: "${learning_rate:=2e-3}"        # of the decoder
: "${backbone_rate_factor:=0.2}"  # the encoder's rate is 4e-4
: "${weight_decay:=0.01}"
: "${validate_epochs:=0}"         # no scores while it trains
: "${OUTPUT_PATH:=}"              # empty: ../../output_camvid/camvid8_DeepLabV3Plus-tf_efficientnet_lite0_cutmix_B4_EMA

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/../ensemble_teacher+cutmix/train_ema.sh"
