#!/bin/sh
# Serves the run that the Space's settings name, else the demo's run.
set -eu
run=runs/demo
if [ -n "${HEADWATER_RUN_HUB:-}" ]; then
  run=runs/hub
  headwater cloud fetch "$HEADWATER_RUN_HUB" "$run"
fi
exec headwater serve "$run" --host 0.0.0.0 --port 7860 --no-open --frame-ancestors https://huggingface.co
