#!/usr/bin/env bash
# Set up the environment when needed, then lint, check types and run the tests. Arguments go to pytest.
set -euo pipefail
. "$(dirname "$0")/.ci/environment.sh" requirements.txt requirements-test.txt
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check --quiet .
"$PYTHON" -m mypy pipeline stages benchmarks
exec "$PYTHON" -m pytest "$@"
