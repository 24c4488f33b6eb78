#!/usr/bin/env bash
#
# build.sh - run a build quietly and show the log only when it fails.
#
# Long build output hides the lines that matter. This wrapper sends all
# output to a log file and prints one line with the result and the time.
# When the build fails it prints the last lines of the log.
#
# Usage: build.sh [COMMAND...]
#   COMMAND   what to run (default: make with one job per processor)
#
# Settings, taken from the environment:
#   BUILD_LOG    the log file (default: build.log)
#   TAIL_LINES   how many lines to show on failure (default: 20)

set -euo pipefail

log=${BUILD_LOG:-build.log}
tail_lines=${TAIL_LINES:-20}

# Print the number of processors, or 1 when we can not find out.
processors() {
  if command -v nproc >/dev/null; then
    nproc
  else
    echo 1
  fi
}

main() {
  local command=("$@")
  if ((${#command[@]} == 0)); then
    command=(make -j "$(processors)")
  fi

  echo "building: ${command[*]}"
  # SECONDS is a bash variable that counts up by itself.
  SECONDS=0
  local status=0
  "${command[@]}" >"$log" 2>&1 || status=$?

  if ((status == 0)); then
    echo "build passed in ${SECONDS}s, log in $log"
    # Warnings are easy to miss in a quiet build, so count them.
    local warnings
    warnings=$(grep -ci 'warning:' "$log" || true)
    if ((warnings > 0)); then
      echo "note: the log has $warnings warning line(s)"
    fi
  else
    echo "build failed with status $status after ${SECONDS}s" >&2
    echo "--- last $tail_lines lines of $log ---" >&2
    tail -n "$tail_lines" "$log" >&2
  fi
  return "$status"
}

main "$@"
