#!/usr/bin/env bash
#
# backup_age.sh - warn when the newest backup is too old or too small.
#
# A backup job that fails makes noise. A backup job that never starts is
# silent. So this check does not look at the job, it looks at the result:
# is there a new archive, and is it about as large as the one before?
#
# Usage: backup_age.sh BACKUP_DIR [MAX_HOURS]
#   MAX_HOURS   how old the newest archive may be (default 26)
#
# The default is a little more than a day, so that a job that takes longer
# than usual does not cause an alarm.

set -euo pipefail

# Print "TIME SIZE PATH" for each archive, the newest first.
list_archives() {
  find "$1" -maxdepth 1 -type f -name '*.tar.gz' -printf '%T@ %s %p\n' | sort -rn
}

check_age() {
  local stamp="$1" max_hours="$2" hours
  # The time has a fraction of a second, which is cut off here.
  hours=$(( ($(date +%s) - ${stamp%.*}) / 3600 ))
  echo "age: $hours hours"
  if (( hours > max_hours )); then
    echo "WARNING: the newest backup is older than $max_hours hours" >&2
    return 1
  fi
}

# A backup of half the usual size means that something was left out.
check_size() {
  local newest="$1" previous="$2"
  echo "size: $((newest / 1024)) KB, the one before had $((previous / 1024)) KB"
  if (( newest * 2 < previous )); then
    echo "WARNING: the newest backup is much smaller than the one before" >&2
    return 1
  fi
}

main() {
  if (( $# == 0 )) || [[ ! -d "$1" ]]; then
    echo "Usage: backup_age.sh BACKUP_DIR [MAX_HOURS]" >&2
    return 2
  fi

  local lines stamp size path previous status=0
  mapfile -t lines < <(list_archives "$1")
  if (( ${#lines[@]} == 0 )); then
    echo "WARNING: there is no backup in $1" >&2
    return 1
  fi

  read -r stamp size path <<<"${lines[0]}"
  echo "newest: $path"
  check_age "$stamp" "${2:-26}" || status=1
  if (( ${#lines[@]} > 1 )); then
    read -r _ previous _ <<<"${lines[1]}"
    check_size "$size" "$previous" || status=1
  fi
  return "$status"
}

main "$@"
