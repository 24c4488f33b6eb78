#!/usr/bin/env bash
#
# errors-per-hour.sh - show how the errors in a log spread over the day.
#
# Each line of the log must start with a date and a time, like this:
#
#   2024-03-01 14:05:09 ERROR cannot open the file data.txt
#
# For each hour with at least one error the script prints the number and
# a row of stars. It then lists the most common messages. Numbers in the
# messages are replaced by N, so that "retry 1" and "retry 2" are counted
# as the same message.
#
# Usage:
#   errors-per-hour.sh app.log [level]
#
# The level is ERROR unless another one is given, such as WARN.

set -euo pipefail

# Keep the lines in which the third field is the wanted level.
lines_of_level() {
  awk -v level="$2" '$3 == level' "$1"
}

# Use the day and the hour as the key, for example "2024-03-01 14".
histogram() {
  awk '
    { count[$1 " " substr($2, 1, 2)]++ }
    END {
      for (hour in count) {
        stars = ""
        for (i = 0; i < count[hour] && i < 40; i++) stars = stars "*"
        printf "%s:00 %5d %s\n", hour, count[hour], stars
      }
    }' | sort
}

common_messages() {
  cut -d ' ' -f 4- |
    sed -E 's/[0-9]+/N/g' |
    sort |
    uniq -c |
    sort -k 1,1nr -k 2 |
    sed -n '1,5p'
}

main() {
  local log="${1:-}" level="${2:-ERROR}"

  if [[ -z "$log" ]]; then
    echo "usage: $(basename "$0") app.log [level]" >&2
    exit 2
  fi
  if [[ ! -r "$log" ]]; then
    echo "error: cannot read $log" >&2
    exit 1
  fi

  local lines
  lines="$(lines_of_level "$log" "$level")"
  if [[ -z "$lines" ]]; then
    echo "no lines with level $level"
    return
  fi

  histogram <<<"$lines"
  echo
  echo "most common messages:"
  common_messages <<<"$lines"
}

main "$@"
