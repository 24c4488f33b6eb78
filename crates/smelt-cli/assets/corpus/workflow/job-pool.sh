#!/usr/bin/env bash
#
# job-pool.sh - limit the number of background jobs with wait -n.
#
# The script makes a small preview of each text file in a directory. It
# is meant as a pattern: replace the function process_file with your
# own work. A new job is started as soon as an old one has finished, so
# all slots stay busy even when some files take much longer.
#
# Usage: job-pool.sh SOURCE TARGET [SLOTS]
#
# It needs bash 4.3 or newer, because of wait -n.

set -euo pipefail

running=0
failed=0

# The work for one file: keep its first five lines.
process_file() {
  local source=$1
  local target=$2
  head -n 5 "$source" >"$target"
}

# Wait for any one job to finish and note whether it failed.
wait_for_one() {
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
}

# Start a command in the background, but first wait for a free slot.
start() {
  local slots=$1
  shift
  while ((running >= slots)); do
    wait_for_one
  done
  "$@" &
  running=$((running + 1))
}

main() {
  if (($# < 2)); then
    echo "usage: job-pool.sh SOURCE TARGET [SLOTS]" >&2
    exit 2
  fi
  local source=$1
  local target=$2
  local slots=${3:-4}
  mkdir -p "$target"

  local file
  local count=0
  for file in "$source"/*.txt; do
    [[ -f $file ]] || continue
    start "$slots" process_file "$file" "$target/$(basename "$file")"
    count=$((count + 1))
  done

  # Nothing new is started from here on, so let the pool run dry.
  while ((running > 0)); do
    wait_for_one
  done

  echo "$count files done with $slots slots, $failed failed"
  ((failed == 0))
}

main "$@"
