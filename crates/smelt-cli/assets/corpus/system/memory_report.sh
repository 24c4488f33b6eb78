#!/usr/bin/env bash
#
# memory_report.sh - show how much memory is used, and by which processes.
#
# The numbers come from /proc/meminfo, which the Linux kernel keeps up to
# date. "Available" is the best guess of how much memory a new program can
# use without swapping. It is a better measure than "free", because memory
# used for caches can be given back.
#
# Usage: memory_report.sh [COUNT]
#   COUNT   how many of the largest processes to list (default 5)

set -euo pipefail

# Print one value from /proc/meminfo in kilobytes.
meminfo() {
  awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo
}

# Turn kilobytes into megabytes, rounded down.
to_mb() {
  echo "$(( $1 / 1024 ))"
}

print_summary() {
  local total available swap_total swap_free used percent
  total="$(meminfo MemTotal)"
  available="$(meminfo MemAvailable)"
  swap_total="$(meminfo SwapTotal)"
  swap_free="$(meminfo SwapFree)"
  used=$((total - available))
  percent=$((100 * used / total))

  echo "Total memory:     $(to_mb "$total") MB"
  echo "Used memory:      $(to_mb "$used") MB (${percent}%)"
  echo "Available memory: $(to_mb "$available") MB"
  if (( swap_total > 0 )); then
    echo "Used swap:        $(to_mb "$((swap_total - swap_free))") MB"
  else
    echo "Used swap:        none, no swap is configured"
  fi
}

# List the processes that hold the most resident memory.
print_largest() {
  local count="$1"
  echo
  echo "The $count largest processes:"
  ps -eo rss=,pid=,user=,comm= \
    | sort -rn \
    | awk -v n="$count" 'NR <= n { printf "%8d MB  %7d  %-12s %s\n", $1 / 1024, $2, $3, $4 }'
}

main() {
  local count="${1:-5}"
  if ! [[ "$count" =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: memory_report.sh [COUNT]" >&2
    return 2
  fi
  if [[ ! -r /proc/meminfo ]]; then
    echo "error: /proc/meminfo is missing, is this Linux?" >&2
    return 1
  fi
  print_summary
  print_largest "$count"
}

main "$@"
