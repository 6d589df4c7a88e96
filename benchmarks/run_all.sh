#!/usr/bin/env bash
# Every benchmark as a process of its own, then docs/performance.md from their figures. benchmarks/run_all.sh --help
set -euo pipefail
. "$(dirname "$0")/../.ci/environment.sh" requirements.txt requirements-test.txt
exec "$PYTHON" -m benchmarks.suite "$@"
