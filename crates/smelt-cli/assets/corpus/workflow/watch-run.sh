#!/usr/bin/env bash
#
# watch-run.sh - run a command again whenever a file changes.
#
# The script looks at the files in a directory once per second. When a
# file was added, removed or saved, it runs the command again. It needs
# no special tools, only find and sort. Press Ctrl-C to stop.
#
# Usage: watch-run.sh DIR COMMAND...
# Example: watch-run.sh src make test

set -euo pipefail

interval=${WATCH_INTERVAL:-1}

# Print one line per file: its name, its size and when it was changed.
# Two equal snapshots mean that nothing has happened in between.
snapshot() {
  # A file may vanish while find is looking, and that is no error.
  find "$1" -type f -not -path '*/.git/*' -printf '%p %s %T@\n' 2>/dev/null |
    sort || true
}

run_command() {
  echo "--- $(date +%H:%M:%S) running: $*"
  if "$@"; then
    echo "--- passed"
  else
    echo "--- failed with status $?"
  fi
}

main() {
  if (($# < 2)); then
    echo "usage: watch-run.sh DIR COMMAND..." >&2
    exit 2
  fi
  local dir=$1
  shift
  if [[ ! -d $dir ]]; then
    echo "error: $dir is not a directory" >&2
    exit 1
  fi

  trap 'echo; echo "stopped watching"; exit 0' INT TERM

  local before after
  before=$(snapshot "$dir")
  run_command "$@"
  while true; do
    sleep "$interval"
    after=$(snapshot "$dir")
    if [[ $after != "$before" ]]; then
      # Remember the state from before the run, so that a change made
      # while the command is running is noticed as well.
      before=$after
      run_command "$@"
    fi
  done
}

main "$@"
