#!/usr/bin/env bash
# Cross pseudo supervision (CPS) on CamVid with EfficientNet-Lite0: the students label for each other and see the weak
# view.
# All other settings are those of train_ema.sh beside it.
set -euo pipefail
set -a

: "${method:=org}"                # supervised, org, ema

# shellcheck source=/dev/null  # it is checked itself
source "$(dirname "${BASH_SOURCE[0]}")/train_ema.sh"
