#!/usr/bin/env bash
#
# timed_steps.sh - run the steps of a job in order, each with a time limit.
#
# The steps are read from a file. Each line holds a limit in seconds, a name
# and a command. The job stops at the first step that fails or that takes
# too long, and the log shows how much time each step used.
#
#   60   fetch   rsync -a backup@example.com:/data/ /srv/data/
#   300  build   make -C /srv/app
#   10   reload  systemctl reload nginx
#
# Usage: timed_steps.sh STEP_FILE

set -euo pipefail

# The commands in the file are run by bash, so the file must come from you.
run_step() {
  local limit="$1" name="$2" command="$3"
  local status=0 start="$SECONDS"

  echo "start  $name"
  # After the limit timeout sends TERM, and five seconds later KILL.
  timeout -k 5 "$limit" bash -c "$command" </dev/null || status=$?

  local used=$((SECONDS - start))
  case "$status" in
    0) echo "done   $name in ${used}s" ;;
    124 | 137) echo "LATE   $name was stopped after ${used}s" ;;
    *) echo "FAILED $name with status $status after ${used}s" ;;
  esac
  return "$status"
}

main() {
  if (( $# != 1 )) || [[ ! -r "$1" ]]; then
    echo "Usage: timed_steps.sh STEP_FILE" >&2
    return 2
  fi

  local limit name command count=0
  # read gives the rest of the line to the last variable.
  while read -r limit name command; do
    [[ -n "$limit" && "$limit" != \#* ]] || continue
    if ! [[ "$limit" =~ ^[0-9]+$ ]] || [[ -z "$command" ]]; then
      echo "error: bad line for step '$name'" >&2
      return 2
    fi
    run_step "$limit" "$name" "$command" || return 1
    count=$((count + 1))
  done <"$1"
  echo "all $count steps finished in ${SECONDS}s"
}

main "$@"
