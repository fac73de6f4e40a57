#!/usr/bin/env bash
# Scores snapshots and adds rows to log_df.csv: ensemble=v3 bash eval.sh, eval_epochs=all bash eval.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[-1]}")"
set -a

: "${volna:=../../}"              # repository root
: "${dataset_path:=}"             # empty: $volna/DATA/city
: "${NGPUS:=all}"                 # the images are shared out over so many GPUs; 0: the CPU
: "${method:=ema}"                # whose run: supervised, org, ema
: "${labeled_ratio:=8}"
: "${batch_size:=4}"
: "${OUTPUT_PATH:=}"              # empty: ../../output_city/city8_res50_cutmix_B4_EMA, after the settings above
: "${snapshot_dir:=$OUTPUT_PATH}"  # snapshots
: "${ensemble:=all}"              # v0, v0_2: students; v1, v1_2: teachers; v2, v3, v4: together; several with commas
: "${eval_epochs:=last}"          # last, all, 20-34, 30,34
: "${eval_scales:=1}"             # 0.75,1,1.25
: "${eval_flip:=0}"

PYTHONPATH="$volna${PYTHONPATH:+:$PYTHONPATH}"
exec python -m furnace eval .
