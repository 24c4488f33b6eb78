#!/usr/bin/env bash
#
# todo-list.sh - list the TODO notes in the files of a repository.
#
# The notes are sorted by age, oldest first, because an old note is
# either important or can be removed. The age comes from git blame.
# Only files that git knows are searched, and binary files are skipped.
#
# Usage: todo-list.sh [WORD]
#   WORD   what to look for (default: TODO)
#
# Example: todo-list.sh FIXME | head -n 5

set -euo pipefail

# Print the day on which a line was last changed.
line_date() {
  local file=$1
  local line=$2
  local seconds
  seconds=$(git blame --porcelain -L "$line,$line" -- "$file" |
    awk '$1 == "committer-time" { print $2 }')
  date -d "@$seconds" +%Y-%m-%d
}

main() {
  local word=${1:-TODO}
  local file line text

  # git grep -z puts a null byte after the name and the line number.
  git grep -n -z -I -w -e "$word" |
    while IFS= read -r -d '' file && IFS= read -r -d '' line &&
      IFS= read -r text; do
      # Drop everything before the word, which is mostly indentation.
      text="$word${text#*"$word"}"
      printf '%s  %s:%s  %s\n' \
        "$(line_date "$file" "$line")" "$file" "$line" "$text"
    done | sort || echo "no $word notes found"
}

main "$@"
