#!/usr/bin/env bash
#
# cron_check.sh - look for common mistakes in a crontab file.
#
# The script reads a crontab and checks every job line: does it have five
# time fields and a command, are the fields made of legal characters, and
# is there a bare percent sign, which cron turns into a newline? It only
# reads, it never changes the crontab.
#
# Usage: cron_check.sh [FILE]
#   Without FILE it checks the crontab of the current user.

set -euo pipefail

problems=0

complain() {
  local number="$1"
  shift
  echo "line $number: $*"
  problems=$((problems + 1))
}

# A time field may hold digits, names like mon, and the signs * , - and /.
legal_field() {
  [[ "$1" =~ ^[0-9A-Za-z*,/-]+$ ]]
}

check_line() {
  local number="$1" line="$2"
  local minute hour day month weekday command field

  # Lines such as "@daily COMMAND" have a name in place of the time fields.
  if [[ "$line" == @* ]]; then
    read -r field command <<<"$line"
    [[ -n "$command" ]] || complain "$number" "no command after $field"
    return 0
  fi

  read -r minute hour day month weekday command <<<"$line"
  if [[ -z "$command" ]]; then
    complain "$number" "needs five time fields and a command"
    return 0
  fi
  for field in "$minute" "$hour" "$day" "$month" "$weekday"; do
    legal_field "$field" || complain "$number" "bad time field '$field'"
  done
  if [[ "$minute" == "*" && "$hour" != "*" ]]; then
    complain "$number" "runs every minute of the hour, is that wanted?"
  fi
  # Remove the escaped signs, then see if a bare one is left.
  if [[ "${command//\\%/}" == *%* ]]; then
    complain "$number" "write \\% and not % in the command"
  fi
}

main() {
  local text line number=0
  if (( $# > 0 )); then
    text="$(cat -- "$1")"
  else
    text="$(crontab -l)"
  fi

  while IFS= read -r line; do
    number=$((number + 1))
    # Skip blank lines, comments and settings such as MAILTO=root.
    [[ "$line" =~ ^[[:space:]]*(#|$) ]] && continue
    [[ "$line" =~ ^[[:space:]]*[A-Za-z_]+[[:space:]]*= ]] && continue
    check_line "$number" "$line"
  done <<<"$text"

  echo "$problems problem(s) found"
  (( problems == 0 ))
}

main "$@"
