#!/usr/bin/env bash
#
# compare_lists.sh - compare two lists of lines as sets.
#
# The order of the lines does not matter and repeated lines count once. The
# program "comm" needs sorted files, so the script sorts both lists with
# process substitution: <(command) looks like a file to the program that
# reads it, and no temporary file is needed.
#
# Usage: compare_lists.sh both|either|left|right FILE_A FILE_B
#   both     lines that are in A and in B
#   either   lines that are in A or in B
#   left     lines that are only in A
#   right    lines that are only in B

set -euo pipefail

usage() {
  echo "usage: ${0##*/} both|either|left|right FILE_A FILE_B" >&2
  exit 2
}

# Sort a file and drop repeated and empty lines. LC_ALL=C gives the same
# order on each machine.
normalise() {
  sed '/^[[:space:]]*$/d' "$1" | LC_ALL=C sort -u
}

compare() {
  local question=$1 a=$2 b=$3
  case $question in
    # "comm" prints three columns: only left, only right, both.
    # An option such as -12 hides the first and the second column.
    both)  LC_ALL=C comm -12 <(normalise "$a") <(normalise "$b") ;;
    left)  LC_ALL=C comm -23 <(normalise "$a") <(normalise "$b") ;;
    right) LC_ALL=C comm -13 <(normalise "$a") <(normalise "$b") ;;
    either) LC_ALL=C sort -mu <(normalise "$a") <(normalise "$b") ;;
    *) usage ;;
  esac
}

main() {
  (( $# == 3 )) || usage

  local file
  for file in "$2" "$3"; do
    if [[ ! -r "$file" ]]; then
      echo "error: cannot read $file" >&2
      exit 1
    fi
  done

  # Read the answer into an array, so that we can count it.
  local -a lines
  mapfile -t lines < <(compare "$@")
  if (( ${#lines[@]} > 0 )); then
    printf '%s\n' "${lines[@]}"
  fi
  echo "number of lines: ${#lines[@]}" >&2
}

main "$@"
