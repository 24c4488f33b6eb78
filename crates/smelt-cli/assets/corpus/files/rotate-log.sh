#!/usr/bin/env bash
#
# rotate-log.sh - rotate a log file when it has grown too big.
#
# The file app.log becomes app.log.1, the old app.log.1 becomes
# app.log.2.gz, and so on. The oldest one is dropped. The log itself is
# copied and then emptied in place, because the program that writes it
# keeps it open and would go on writing to a file that was renamed.
#
# Usage:
#   rotate-log.sh log_file [max_kilobytes] [keep]
#
# Defaults: max_kilobytes is 1024 and keep is 5.

set -euo pipefail

# Move number N to N+1, starting with the highest one. Only number 1 is
# not compressed, because it is the one that people look at most.
shift_numbers() {
  local log="$1" keep="$2" i

  rm -f -- "$log.$keep.gz"
  for ((i = keep - 1; i >= 2; i--)); do
    if [[ -f "$log.$i.gz" ]]; then
      mv -- "$log.$i.gz" "$log.$((i + 1)).gz"
    fi
  done

  if [[ -f "$log.1" ]]; then
    gzip -c -- "$log.1" >"$log.2.gz"
    rm -f -- "$log.1"
  fi
}

main() {
  if (($# < 1 || $# > 3)); then
    echo "usage: $(basename "$0") log_file [max_kilobytes] [keep]" >&2
    exit 2
  fi

  local log="$1" max_kb="${2:-1024}" keep="${3:-5}"

  if [[ ! -f "$log" ]]; then
    echo "error: no such log: $log" >&2
    exit 1
  fi
  if ((keep < 2)); then
    echo "error: keep must be at least 2" >&2
    exit 1
  fi

  local size
  size="$(stat -c %s -- "$log")"
  if ((size < max_kb * 1024)); then
    echo "$log has $size bytes, no need to rotate"
    return
  fi

  shift_numbers "$log" "$keep"
  cp -p -- "$log" "$log.1"
  : >"$log"
  echo "rotated $log ($size bytes)"
}

main "$@"
