#!/usr/bin/env bash
# Prove the adapters with the real packages: bash tests/integrations/run.sh [trl verl …]
# Each package lives in an environment of its own below build/integrations.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec .venv/bin/python tests/integrations/run.py "$@"
