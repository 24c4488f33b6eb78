#!/usr/bin/env bash
#
# watch-folder.sh - run a command each time a file in a folder changes.
#
# The script takes a picture of the folder every few seconds: the path,
# the size and the time of the last change of each file. When the new
# picture differs from the old one, it prints what changed and runs the
# command. It needs no extra programs, unlike inotifywait.
#
# Usage:
#   watch-folder.sh folder command [argument ...]
#
# Environment:
#   INTERVAL   seconds between two looks (default 2)
#
# Example:
#   watch-folder.sh src make test
#
# Stop it with Ctrl-C.

set -euo pipefail

interval="${INTERVAL:-2}"

# One line for each file. The time comes last, with its fraction, so that
# two saves within one second are still told apart.
take_picture() {
  find "$1" -type f -printf '%p\t%s\t%T@\n' 2>/dev/null | sort
}

# Compare two pictures and name the files that differ. A changed file is
# in both lists with different details, so print each path only once.
changed_paths() {
  comm -3 <(echo "$1") <(echo "$2") |
    sed 's/^\t//' |
    cut -f 1 |
    sort -u
}

run_command() {
  local status=0
  echo "--- $(date +%H:%M:%S) running: $*"
  "$@" || status=$?
  if ((status != 0)); then
    # Keep watching: the next change may well repair it.
    echo "--- the command failed with status $status" >&2
  fi
}

main() {
  if (($# < 2)); then
    echo "usage: $(basename "$0") folder command [argument ...]" >&2
    exit 2
  fi

  local folder="$1"
  shift
  if [[ ! -d "$folder" ]]; then
    echo "error: not a folder: $folder" >&2
    exit 1
  fi

  trap 'echo; echo "stopped"; exit 0' INT TERM

  local before after
  before="$(take_picture "$folder")"
  echo "watching $folder, press Ctrl-C to stop"
  while true; do
    sleep "$interval"
    after="$(take_picture "$folder")"
    if [[ "$before" != "$after" ]]; then
      changed_paths "$before" "$after" | sed 's/^/changed: /'
      run_command "$@"
      # Look again, because the command itself may have written files.
      after="$(take_picture "$folder")"
    fi
    before="$after"
  done
}

main "$@"
