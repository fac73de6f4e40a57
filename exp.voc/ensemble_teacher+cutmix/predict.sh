#!/usr/bin/env bash
# Labels images: bash predict.sh photos/ more/*.jpg; relative paths are meant from where you are, not from here.
# Options (--out FOLDER --probabilities --disagreement): bash predict.sh --help
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[-1]}")" > /dev/null && pwd)"
set -a

: "${volna:=../../}"              # repository root
: "${dataset_path:=}"             # empty: $volna/DATA/pascal_voc
: "${NGPUS:=all}"                 # the first GPU; 0: the CPU
: "${method:=ema}"                # whose run: supervised, org, ema
: "${labeled_ratio:=8}"
: "${batch_size:=8}"
: "${OUTPUT_PATH:=}"              # empty: ../../output_voc/voc8_res50_cutmix_B8_EMA, after the settings above
: "${snapshot_dir:=$OUTPUT_PATH}"  # snapshots
: "${ensemble:=}"                 # empty: v3, teachers together, or v2, students, where there are none
: "${eval_epochs:=last}"          # or the number of an epoch
: "${eval_scales:=1}"             # 0.75,1,1.25
: "${eval_flip:=0}"

[[ "$volna" == /* ]] && root="$volna" || root="$here/$volna"
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec python -P -m furnace predict "$here" "$@"  # -P: nothing is imported from where you are
