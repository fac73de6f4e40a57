#!/usr/bin/env bash
# Ensemble Teacher from nothing to a score in minutes, on two CPU cores: bash scripts/demo.sh
# Makes a small data set, trains from random weights with 1/8 of the labels, evaluates, and shows what was learned.
# shellcheck disable=SC2034  # settings are exported to the scripts called below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

experiment="exp.voc/ensemble_teacher+cutmix"
PYTHONPATH=. python -m furnace demo-data DATA/demo --images 250 --seed 0

# What differs from the published recipe, because everything starts from random weights and is over in 840 iterations: a
# small network, crop and set of scales, pseudo-labels that wait until they are of use, and teachers that follow sooner.
# Where the demo is, and what it evaluates, is fixed; everything else may be set outside, as for the scripts it calls.
set -a
: "${NGPUS:=0}" "${method:=ema}" "${labeled_ratio:=8}" "${batch_size:=8}" "${seed:=0}"
: "${pretrained_model:=none}" "${backbone:=resnet18_v1c}" "${width:=0.25}" "${image_size:=96}"
: "${train_scales:=0.75,1,1.25,1.5}" "${learning_rate:=0.05}" "${nepochs:=40}"
: "${cps_ramp:=0.3,0.6}" "${ema_decay:=0.99}"
: "${snapshot_iter:=10}" "${validate_epochs:=5}" "${picture_iter:=105}"
ensemble=all
dataset_path="$PWD/DATA/demo"
OUTPUT_PATH="$PWD/output_voc/demo"
snapshot_dir="$OUTPUT_PATH"
eval_epochs=none
set +a

bash "$experiment/train_ema.sh"
eval_epochs=last bash "$experiment/eval.sh"

python - "$experiment/log_df.csv" <<'END'
import sys

import pandas

table = pandas.read_csv(sys.argv[1])
table = table[table.folder == "demo"].sort_values("evaluated_at").drop_duplicates("Ensemble", keep="last")
print("\nmean IoU in percent, from log_df.csv")
print(table[["Ensemble", "mean_IU", "mean_pixel_ACC"]].to_string(index=False))
END
echo
PYTHONPATH=. python -m furnace report "$OUTPUT_PATH" --log "$experiment/log_df.csv"
echo "pictures (image, truth, students, teachers, together): $OUTPUT_PATH/panel.png; while it trained: tensorboard --logdir $OUTPUT_PATH"
