#!/usr/bin/env bash
#
# with_lock.sh - run a command so that only one copy runs at a time.
#
# A job that is started every minute may take longer than a minute. Then two
# copies run at once and disturb each other. This script takes a lock with
# flock before it runs the command. If another copy holds the lock, it gives
# up at once, or waits for some seconds when asked to.
#
# Usage: with_lock.sh [-w SECONDS] NAME COMMAND [ARG...]
#   NAME         name of the lock, letters, digits, dots, dashes
#   -w SECONDS   wait this long for the lock (default 0)
#
# Exit status: 75 if the lock is busy, else the status of the command.

set -euo pipefail

lock_dir="${LOCK_DIR:-${TMPDIR:-/tmp}}"

fail() {
  echo "with_lock: $*" >&2
  exit 2
}

main() {
  local wait_seconds=0
  if [[ "${1:-}" == "-w" ]]; then
    wait_seconds="${2:-}"
    [[ "$wait_seconds" =~ ^[0-9]+$ ]] || fail "-w needs a number of seconds"
    shift 2
  fi
  (( $# >= 2 )) || fail "usage: with_lock.sh [-w SECONDS] NAME COMMAND [ARG...]"

  local name="$1"
  shift
  [[ "$name" =~ ^[A-Za-z0-9._-]+$ ]] || fail "bad lock name: $name"
  command -v flock >/dev/null || fail "flock is not installed"

  # Open the lock file on descriptor 9. The kernel drops the lock when the
  # descriptor is closed, even if this script is killed, so a stale lock
  # cannot stay behind.
  exec 9>"$lock_dir/$name.lock"
  if ! flock -w "$wait_seconds" 9; then
    echo "with_lock: $name is already running" >&2
    exit 75
  fi

  "$@"
}

main "$@"
