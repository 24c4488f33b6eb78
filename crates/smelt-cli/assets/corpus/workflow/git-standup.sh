#!/usr/bin/env bash
#
# git-standup.sh - show what you committed recently.
#
# Use it before a morning meeting to remember what you did. The script
# prints your own commits on all branches, grouped by day. On a Monday
# it looks back to Friday, because nobody asks about the weekend.
#
# Usage: git-standup.sh [DAYS]
#   DAYS   how many days to look back (default: 1, or 3 on a Monday)

set -euo pipefail

# Decide how far to look back when the user did not say.
default_days() {
  # date +%u prints 1 for Monday and 7 for Sunday.
  if [[ $(date +%u) == 1 ]]; then
    echo 3
  else
    echo 1
  fi
}

print_commits() {
  local days=$1
  local author=$2
  local last_day=""
  local day hash subject
  git log --all --no-merges --author="$author" \
    --since="$days days ago" --date=short \
    --format='%ad %h %s' |
    while read -r day hash subject; do
      if [[ $day != "$last_day" ]]; then
        echo "$day"
        last_day=$day
      fi
      echo "  $hash $subject"
    done
}

main() {
  local days=${1:-$(default_days)}
  if [[ ! $days =~ ^[0-9]+$ ]]; then
    echo "error: DAYS must be a whole number, not '$days'" >&2
    exit 2
  fi

  local author
  if ! author=$(git config user.email); then
    echo "error: git does not know your email address" >&2
    echo "set it with: git config user.email you@example.com" >&2
    exit 1
  fi

  local report
  report=$(print_commits "$days" "$author")
  if [[ -z $report ]]; then
    echo "no commits by $author in the last $days day(s)"
  else
    echo "$report"
  fi
}

main "$@"
