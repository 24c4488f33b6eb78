#!/usr/bin/env bash
#
# top_processes.sh - list the busiest processes by CPU or by memory.
#
# This is a small, quiet version of top that prints one table and ends. It
# is good for a log file or for a mail report.
#
# Usage: top_processes.sh [cpu|mem] [COUNT]
# Example: top_processes.sh mem 5
#
# The columns are the process number, the user, the share of CPU time and
# of memory in percent, the time since the start, and the program name.

set -euo pipefail

usage() {
  echo "Usage: top_processes.sh [cpu|mem] [COUNT]"
}

# ps sorts by itself: a minus sign before the column means largest first.
list_processes() {
  local column="$1" count="$2"
  ps -eo pid,user,pcpu,pmem,etime,comm --sort="-$column" \
    | awk -v n="$count" 'NR <= n + 1'
}

main() {
  local kind="${1:-cpu}" count="${2:-10}" column
  case "$kind" in
    cpu) column=pcpu ;;
    mem) column=pmem ;;
    -h | --help) usage; return 0 ;;
    *) usage >&2; return 2 ;;
  esac
  if ! [[ "$count" =~ ^[1-9][0-9]*$ ]]; then
    echo "error: COUNT must be a positive number, not '$count'" >&2
    return 2
  fi

  echo "Top $count processes by $kind on $(date '+%Y-%m-%d %H:%M')"
  list_processes "$column" "$count"
}

main "$@"
