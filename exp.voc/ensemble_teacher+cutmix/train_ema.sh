#!/usr/bin/env bash
# Ensemble Teacher on PASCAL VOC: EMA teachers label, students see the strong view.
# Every setting is an environment variable: change its default here, or set it outside (labeled_ratio=16 bash train_ema.sh).
# The others, with their meaning: python -m furnace train --settings
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[-1]}")"
set -a

: "${volna:=../../}"              # repository root
: "${dataset_path:=}"             # empty: $volna/DATA/pascal_voc
: "${NGPUS:=all}"                 # processes on this machine, one GPU each; 0: one process on the CPU
: "${method:=ema}"                # supervised, org, ema
: "${labeled_ratio:=8}"           # 1/N of the images are labelled: 16, 8, 4, 2
: "${nepochs:=}"                  # empty: 32, 34, 40, 60 for 1/16, 1/8, 1/4, 1/2
: "${batch_size:=8}"              # over all processes
: "${image_size:=512}"           # side of the crop
: "${seed:=0}"
: "${precision:=auto}"            # auto: bf16 on a GPU that has it; fp32, bf16, fp16
: "${resume:=auto}"               # auto: go on where a run stopped; never; force
: "${learning_rate:=0.0025}"
: "${pretrained_model:=$volna/DATA/pytorch-weight/resnet50_v1c.pth}"  # or torchvision://resnet50, or none
: "${backbone:=}"                 # empty: the one in pretrained_model
: "${snapshot_iter:=1}"           # epochs between snapshots
: "${keep_snapshots:=3}"
: "${OUTPUT_PATH:=}"              # empty: ../../output_voc/voc8_res50_cutmix_B8_EMA, after the settings above
: "${snapshot_dir:=$OUTPUT_PATH}"  # snapshots
: "${validate_epochs:=4}"        # epochs between scores of all predictors while it trains; 0: none
: "${eval_epochs:=last}"          # evaluated afterwards: last, all, none, 20-34, 30,34
: "${ensemble:=all}"              # v0, v0_2: students; v1, v1_2: teachers; v2, v3, v4: together

PYTHONPATH="$volna${PYTHONPATH:+:$PYTHONPATH}"
exec python -m furnace train . --then-eval  # signals reach it: it saves and ends with status 75, "start me again"
