#!/bin/sh
# Runs the given command. Before that:
# - Without a volume, it puts the hub's cache in /tmp.
# - With HEADWATER_RUN_DEMO=1 and no run in HEADWATER_RUN, it builds the demo's run there: three minutes on two cores. If
#   that fails, the worker says so in every job.
set -u
if ! mkdir -p "$HF_HOME" 2>/dev/null || [ ! -w "$HF_HOME" ]; then
  echo "$HF_HOME cannot be written to. Models go to /tmp/huggingface." >&2
  export HF_HOME=/tmp/huggingface
fi
if [ "${HEADWATER_RUN_DEMO:-0}" = 1 ] && [ ! -e "$HEADWATER_RUN/manifest.json" ]; then
  headwater demo "$HEADWATER_RUN" --no-serve || echo "The demo could not be built in $HEADWATER_RUN." >&2
fi
exec "$@"
