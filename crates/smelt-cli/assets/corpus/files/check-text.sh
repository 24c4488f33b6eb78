#!/usr/bin/env bash
#
# check-text.sh - look for small faults in text files.
#
# The script reports spaces at the end of a line, tabs, carriage returns,
# characters outside of ASCII, lines that are too long, and a missing line
# break at the end of the file. It changes nothing. The exit status is 1
# if there is any fault, so it can be used before a commit.
#
# Usage:
#   check-text.sh file [file ...]
#
# Environment:
#   MAX_WIDTH   the longest line that is allowed (default 100)

set -euo pipefail

max_width="${MAX_WIDTH:-100}"
faults=0

# Print each line that matches a pattern, as "file:line: what".
report_lines() {
  local file="$1" pattern="$2" what="$3" number rest

  while IFS=: read -r number rest; do
    echo "$file:$number: $what"
    faults=$((faults + 1))
  done < <(LC_ALL=C grep -anE -e "$pattern" -- "$file")
}

# The last byte of a good text file is a line break. The shell drops line
# breaks at the end of $(...), so nothing is left if all is well.
check_last_byte() {
  local file="$1"
  if [[ -s "$file" && -n "$(tail -c 1 -- "$file")" ]]; then
    echo "$file: no line break at the end"
    faults=$((faults + 1))
  fi
}

check_file() {
  local file="$1"
  report_lines "$file" ' +$' "spaces at the end of the line"
  report_lines "$file" $'\t' "a tab"
  report_lines "$file" $'\r$' "a carriage return"
  report_lines "$file" $'[\x80-\xff]' "a character outside of ASCII"
  report_lines "$file" ".{$((max_width + 1)),}" "more than $max_width bytes"
  check_last_byte "$file"
}

main() {
  if (($# == 0)); then
    echo "usage: $(basename "$0") file [file ...]" >&2
    exit 2
  fi

  local file
  for file in "$@"; do
    if [[ -r "$file" ]]; then
      check_file "$file"
    else
      echo "$file: cannot be read" >&2
      faults=$((faults + 1))
    fi
  done

  if ((faults > 0)); then
    echo "$faults faults found"
    exit 1
  fi
}

main "$@"
