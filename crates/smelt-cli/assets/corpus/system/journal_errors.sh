#!/usr/bin/env bash
#
# journal_errors.sh - count the errors in the journal for each program.
#
# A single error line may be an accident. A hundred lines from one program
# are a sign. This script counts the error messages since a given time and
# prints the programs with the most of them first.
#
# Usage: journal_errors.sh [SINCE]
#   SINCE   a time that journalctl understands (default "24 hours ago")
#
# Example: journal_errors.sh "2 hours ago"

set -euo pipefail

# With -p err only messages of level error or worse are shown. The format
# "short" puts the program in the fifth column, like sshd[812]: or kernel:
errors_since() {
  journalctl -p err --since "$1" --no-pager -o short -q
}

# Remove the process number and the colon, then count equal names.
count_by_program() {
  awk '{ name = $5; sub(/\[[0-9]+\]/, "", name); sub(/:$/, "", name); print name }' \
    | sort | uniq -c | sort -rn
}

main() {
  local since="${1:-24 hours ago}" text
  if ! command -v journalctl >/dev/null; then
    echo "error: journalctl was not found" >&2
    return 2
  fi

  text="$(errors_since "$since")"
  if [[ -z "$text" ]]; then
    echo "no errors since $since"
    return 0
  fi
  echo "errors since $since:"
  count_by_program <<<"$text"
}

main "$@"
