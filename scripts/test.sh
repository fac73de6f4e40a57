#!/usr/bin/env bash
# All tests and the linter: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh pytest hypothesis ruff

python -m pytest "$@"
ruff check .
