#!/usr/bin/env bash
# .buildkite/hooks/pre-command: tells the agent the token, to redact it, and then the variables.
set -euo pipefail
vertex-env ci --job-timeout 50m
