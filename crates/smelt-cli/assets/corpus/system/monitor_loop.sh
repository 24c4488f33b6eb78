#!/usr/bin/env bash
#
# monitor_loop.sh - run a check again and again, and report only changes.
#
# A monitor that writes a message every minute is soon ignored. This one
# remembers the last state. It speaks when the check goes from good to bad
# or from bad to good. To avoid false alarms, a check must fail several
# times in a row before it counts as bad.
#
# Usage: monitor_loop.sh [-i SECONDS] [-f FAILS] COMMAND [ARG...]
#   -i SECONDS   time between two checks (default 30)
#   -f FAILS     failures in a row that count as bad (default 3)
#
# Example: monitor_loop.sh -i 60 ping -c 1 -W 2 example.com

set -euo pipefail

interval=30
max_fails=3
state=good

report() {
  echo "$(date '+%Y-%m-%d %H:%M:%S') $*"
}

# Called when the user presses control and C, or when systemd stops us.
stop() {
  report "monitor stopped, last state was $state"
  exit 0
}

run_loop() {
  local fails=0
  while true; do
    if "$@" >/dev/null 2>&1; then
      fails=0
      if [[ "$state" == "bad" ]]; then
        state=good
        report "RECOVERED: $*"
      fi
    else
      fails=$((fails + 1))
      if [[ "$state" == "good" ]] && (( fails >= max_fails )); then
        state=bad
        report "FAILED $fails times: $*"
      fi
    fi
    # Sleeping in the background and waiting for it lets the trap run at
    # once. A plain sleep would delay it until the sleep is over.
    sleep "$interval" &
    wait "$!"
  done
}

main() {
  local option
  while getopts 'i:f:' option; do
    case "$option" in
      i) interval="$OPTARG" ;;
      f) max_fails="$OPTARG" ;;
      *) return 2 ;;
    esac
  done
  shift $((OPTIND - 1))

  if (( $# == 0 )); then
    echo "Usage: monitor_loop.sh [-i SECONDS] [-f FAILS] COMMAND [ARG...]" >&2
    return 2
  fi

  trap stop INT TERM
  report "monitor started: $*"
  run_loop "$@"
}

main "$@"
