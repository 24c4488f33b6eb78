#!/usr/bin/env bash
#
# bench-compare.sh - find out which of several commands is the fastest.
#
# The commands are run in turns: first each one once, then each one a
# second time, and so on. In this way a slow moment of the machine hits
# all of them and not only one. The best time of each command counts.
#
# Usage: bench-compare.sh ROUNDS COMMAND COMMAND...
# Each command is one argument and is run by bash, for example:
#   bench-compare.sh 5 'sort words.txt' 'sort -u words.txt'

set -euo pipefail

now_us() {
  echo "${EPOCHREALTIME/[.,]/}"
}

main() {
  if (($# < 3)); then
    echo "usage: bench-compare.sh ROUNDS COMMAND COMMAND..." >&2
    exit 2
  fi
  local rounds=$1
  shift
  local commands=("$@")
  local best=()
  local round i start took

  for ((round = 1; round <= rounds; round++)); do
    for i in "${!commands[@]}"; do
      start=$(now_us)
      if ! bash -c "${commands[i]}" >/dev/null 2>&1; then
        echo "error: this command failed: ${commands[i]}" >&2
        exit 1
      fi
      took=$(($(now_us) - start))
      if [[ -z ${best[i]:-} ]] || ((took < best[i])); then
        best[i]=$took
      fi
    done
  done

  # The winner is the command with the smallest best time.
  local winner=0
  for i in "${!best[@]}"; do
    if ((best[i] < best[winner])); then
      winner=$i
    fi
  done

  for i in "${!commands[@]}"; do
    # Print how many percent of the winner's time this command took.
    printf '%10d us  %4d%%  %s\n' "${best[i]}" \
      "$((best[i] * 100 / best[winner]))" "${commands[i]}"
  done | sort -n
}

main "$@"
