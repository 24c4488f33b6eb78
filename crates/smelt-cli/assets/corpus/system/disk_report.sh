#!/usr/bin/env bash
#
# disk_report.sh - warn about file systems that are almost full.
#
# The script reads the output of df, looks at each mounted file system,
# and prints one line for every mount point. A mount that uses more space
# than the limit is marked with WARN, and the exit status becomes 1, so
# that a cron job or a monitor can act on it.
#
# Usage: disk_report.sh [LIMIT]
#   LIMIT   percentage of used space that counts as too full (default 85)

set -euo pipefail

usage() {
  echo "Usage: $(basename "$0") [LIMIT]"
  echo "Report disk usage and warn above LIMIT percent (default 85)."
}

# Print "MOUNT USED_PERCENT FREE_KB" for each real file system.
# The -P option keeps each entry on one line, and -k counts in kilobytes.
list_mounts() {
  df -Pk | awk '
    NR == 1 { next }
    $1 ~ /^(tmpfs|devtmpfs|udev|none)$/ { next }
    { sub(/%/, "", $5); print $6, $5, $4 }
  '
}

main() {
  local limit="${1:-85}"

  if [[ "$limit" == "-h" || "$limit" == "--help" ]]; then
    usage
    return 0
  fi
  if ! [[ "$limit" =~ ^[0-9]+$ ]] || (( limit > 100 )); then
    echo "error: LIMIT must be a number from 0 to 100" >&2
    return 2
  fi

  local mount used free state
  local full=0
  printf '%-6s %5s %10s  %s\n' STATE USED FREE_MB MOUNT
  while read -r mount used free; do
    # Some pseudo file systems report a dash instead of a number.
    [[ "$used" =~ ^[0-9]+$ ]] || continue
    state="ok"
    if (( used > limit )); then
      state="WARN"
      full=$((full + 1))
    fi
    printf '%-6s %4s%% %10d  %s\n' "$state" "$used" "$((free / 1024))" "$mount"
  done < <(list_mounts)

  if (( full > 0 )); then
    echo "$full file system(s) above ${limit}%" >&2
    return 1
  fi
}

main "$@"
