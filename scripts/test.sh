#!/usr/bin/env bash
# Style, types and all tests, in as many processes as there are cores: bash scripts/test.sh [quick] [pytest arguments]
#   quick    leaves out tests/system (whole runs, scripts, several processes) and what is marked as slow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh --requirement tests/requirements.txt

left_out=()
if [ "${1:-}" = quick ]; then
    left_out=(--ignore tests/system -m "not slow")
    shift
fi
ruff check .
ruff format --check .
mypy
cores="$(python -c 'from furnace.engine.machine import cores; print(cores())')" # nproc would say OMP_NUM_THREADS
export OMP_NUM_THREADS=1 # threads of two programs would wait for each other
exec python -m pytest -n "$cores" --dist loadgroup --no-loadscope-reorder "${left_out[@]}" "$@"
