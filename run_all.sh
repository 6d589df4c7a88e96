#!/usr/bin/env bash
# Set up the environment when needed, then run every stage that is not up to date. ./run_all.sh --help
set -euo pipefail
. "$(dirname "$0")/.ci/environment.sh" requirements.txt
exec "$PYTHON" stages/run_all.py "$@"
