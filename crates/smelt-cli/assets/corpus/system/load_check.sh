#!/usr/bin/env bash
#
# load_check.sh - compare the system load with the number of processors.
#
# The load is the average number of processes that want to run or that wait
# for the disk. A load of 4 is heavy on a machine with one processor, but
# light on a machine with sixteen. So the script divides the load by the
# number of processors and compares that with two limits.
#
# Usage: load_check.sh [WARN] [CRITICAL]
#   WARN       load per processor in percent (default 100)
#   CRITICAL   load per processor in percent (default 200)
#
# Exit status: 0 for ok, 1 for a warning, 2 for critical.

set -euo pipefail

main() {
  local warn="${1:-100}" critical="${2:-200}"
  local one five fifteen cpus percent

  # The file holds three averages: for 1, 5 and 15 minutes.
  read -r one five fifteen _ </proc/loadavg
  cpus="$(nproc)"

  # Bash knows only whole numbers, so awk does the division.
  percent="$(awk -v load="$five" -v n="$cpus" 'BEGIN { printf "%d", 100 * load / n }')"

  echo "load: $one (1 min) $five (5 min) $fifteen (15 min)"
  echo "processors: $cpus, load per processor: ${percent}%"

  if (( percent >= critical )); then
    echo "CRITICAL: the machine is overloaded"
    return 2
  elif (( percent >= warn )); then
    echo "WARNING: the machine is busy"
    return 1
  fi
  echo "ok"
}

main "$@"
