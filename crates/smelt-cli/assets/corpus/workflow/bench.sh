#!/usr/bin/env bash
#
# bench.sh - time a command several times and print a summary.
#
# One measurement says little, because the machine is busy with other
# things too. This script runs the command many times and prints the
# fastest, the median and the slowest run. The first runs are thrown
# away, since they fill the caches.
#
# Usage: bench.sh [-n RUNS] [-w WARMUP] COMMAND...
# Example: bench.sh -n 20 sort big.txt

set -euo pipefail

usage() {
  echo "usage: bench.sh [-n RUNS] [-w WARMUP] COMMAND..." >&2
  exit 2
}

# Run the command once and print the time in microseconds.
time_once() {
  local start end
  # EPOCHREALTIME looks like 1700000000.123456. Without the dot it is
  # a whole number of microseconds. Some locales use a comma instead.
  start=${EPOCHREALTIME/[.,]/}
  "$@" >/dev/null 2>&1 || return
  end=${EPOCHREALTIME/[.,]/}
  echo "$((end - start))"
}

# Show microseconds as milliseconds with three digits after the dot.
format_ms() {
  printf '%d.%03d ms' "$(($1 / 1000))" "$(($1 % 1000))"
}

main() {
  local runs=10
  local warmup=2
  local opt
  while getopts ':n:w:' opt; do
    case $opt in
      n) runs=$OPTARG ;;
      w) warmup=$OPTARG ;;
      *) usage ;;
    esac
  done
  shift $((OPTIND - 1))
  if (($# == 0 || runs < 1)); then
    usage
  fi

  local i took
  local times=()
  for ((i = 0; i < warmup + runs; i++)); do
    if ! took=$(time_once "$@"); then
      echo "error: the command failed, so its time means nothing" >&2
      exit 1
    fi
    if ((i >= warmup)); then
      times+=("$took")
    fi
  done

  local sorted
  mapfile -t sorted < <(printf '%s\n' "${times[@]}" | sort -n)
  echo "command: $*"
  echo "runs:    $runs"
  echo "fastest: $(format_ms "${sorted[0]}")"
  echo "median:  $(format_ms "${sorted[runs / 2]}")"
  echo "slowest: $(format_ms "${sorted[runs - 1]}")"
}

main "$@"
