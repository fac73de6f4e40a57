#!/usr/bin/env bash
# What one GPU shows of this program in ten minutes, the most wanted first:
#   bash tests/bench/gpu.sh [--rehearse] [SECONDS] [PART...]
#   --rehearse   the same parts with tiny networks on the CPU, in some minutes; its figures mean nothing
#   SECONDS      all of it within this time (default 570)
#   PART...      only these, in their usual order: prove step recipes evaluation kernels graphs searched
# Each part writes a log of its own into OUT (default: a temporary folder) as it goes. A part that fails, or whose time
# is up, does not end the others, and what it found until then stands in its log. OUT/summary.md says how each one ended.
# It needs Python with the packages of requirements.txt (PYTHON=python3), and no network, git or data set.
set -uo pipefail # without -e: the next part runs whatever becomes of this one
set -m           # parts get process groups of their own, and hear an interrupt only from here
OUT=${OUT:-$(mktemp -d "${TMPDIR:-/tmp}/gpu-bench-XXXXXX")}
mkdir -p "$OUT" && OUT=$(realpath "$OUT") && cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

names=" prove step recipes evaluation kernels graphs searched "
total=570 wanted="" device=(--device cuda) proof=()
for word in "$@"; do
    if [ "$word" = --rehearse ]; then
        device=(--device cpu --tiny) proof=(NGPUS=0 --only float64)
    elif [[ $word =~ ^[0-9]+$ ]]; then
        total=$word
    elif [[ $word =~ ^[a-z]+$ && $names = *" $word "* ]]; then
        wanted+=" $word "
    else
        echo "expected --rehearse, a number of seconds, or parts of:$names; found '$word'" >&2
        exit 2
    fi
done
python=${PYTHON:-$(command -v python || echo python3)}
export PYTHONUNBUFFERED=1

summary=$OUT/summary.md running="" stopped="" failed=0
{
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no GPU"
    echo "$(env -u OMP_NUM_THREADS nproc) cores"
    free -h
    df -h /dev/shm
    printf '\n| part | seconds | at most | status |\n| --- | --- | --- | --- |\n'
} >"$summary" 2>&1

# shellcheck disable=SC2317  # the trap calls it
stop() { # a signal ends the part that runs, and no other one begins
    stopped=yes
    if [ -n "$running" ]; then kill -TERM "$running" 2>/dev/null; fi
}
trap stop INT TERM HUP

# part NAME MOST KEPT COMMAND...: runs a command for MOST seconds at most, and leaves KEPT seconds of 570 to the parts behind.
part() {
    local name=$1 most=$2 kept=$3 begin=$SECONDS status=0 limit log=$OUT/$1.log shown
    shift 3
    if [ -n "$wanted" ]; then
        [[ $wanted = *" $name "* ]] || return
        kept=0 # the parts that were asked for by name are few
    fi
    limit=$((total - SECONDS - kept * total / 570))
    if [ "$limit" -gt "$most" ]; then limit=$most; fi
    if [ -n "$stopped" ]; then
        status="not begun: stopped"
    elif [ "$limit" -le 0 ]; then
        status="not begun: no time left"
    else
        echo "== $name, at most $limit s: $*"
        : >"$log"
        timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null &
        running=$!
        tail -n +1 -s 0.2 -f --pid="$running" "$log" &
        shown=$!
        wait "$running" || status=$?
        if [ -n "$stopped" ]; then wait "$running"; fi # the signal ended the first wait, but not yet the part
        running=""
        wait "$shown"
        case $status in
        0) status="done" ;;
        124 | 137) status="time was up" ;;
        *) status="failed, status $status" failed=1 ;;
        esac
        if [ -n "$stopped" ]; then status=stopped; fi
    fi
    echo "| $name | $((SECONDS - begin)) | $((limit > 0 ? limit : 0)) | $status |" >>"$summary"
    printf '\n== %s: %s\n' "$name" "$status"
}

step=("$python" -m tests.bench.step "${device[@]}" --turns 20)
part prove 240 250 "$python" -m furnace prove "${proof[@]}"
part step 240 140 "${step[@]}"
part recipes 150 85 "$python" -m tests.bench.recipes "${device[@]}"
part evaluation 120 45 "$python" -m tests.bench.evaluation "${device[@]}"
part kernels 60 0 "$python" -m tests.bench.kernels "${device[@]}"
# Each needs a process of its own: graphs are captured from the start, and cuDNN keeps what it chose.
part graphs 240 0 env TORCHINDUCTOR_CUDAGRAPHS=1 "${step[@]}" --rows compile=1
part searched 150 0 "${step[@]}" --rows searched

printf '\n== summary; logs are in %s\n' "$OUT"
cat "$summary"
if [ -n "$stopped" ]; then exit 143; fi
exit "$failed"
