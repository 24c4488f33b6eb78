#!/usr/bin/env bash
#
# parallel-wait.sh - run different commands at the same time.
#
# Each argument is one command line. All of them are started at once in
# the background. Their output goes to separate files, so that the
# lines do not get mixed up, and is printed in order at the end.
#
# Usage: parallel-wait.sh COMMAND COMMAND...
# Example: parallel-wait.sh 'make lint' 'make test' 'make docs'

set -euo pipefail

work=$(mktemp -d)
pids=()

# Stop the jobs that still run when somebody presses Ctrl-C.
stop_jobs() {
  echo "stopping ${#pids[@]} jobs" >&2
  kill "${pids[@]}" 2>/dev/null || true
  exit 130
}

trap 'rm -rf "$work"' EXIT
trap stop_jobs INT TERM

main() {
  if (($# == 0)); then
    echo "usage: parallel-wait.sh COMMAND COMMAND..." >&2
    exit 2
  fi
  local commands=("$@")
  local i

  for i in "${!commands[@]}"; do
    bash -c "${commands[i]}" >"$work/$i.out" 2>&1 </dev/null &
    # The variable $! holds the process id of the job just started.
    pids+=("$!")
  done

  local failed=0
  local status
  for i in "${!commands[@]}"; do
    status=0
    # wait with a process id gives back the status of that job.
    wait "${pids[i]}" || status=$?
    echo "=== ${commands[i]} (status $status)"
    cat "$work/$i.out"
    if ((status != 0)); then
      failed=$((failed + 1))
    fi
  done

  echo "${#commands[@]} jobs, $failed failed"
  ((failed == 0))
}

main "$@"
