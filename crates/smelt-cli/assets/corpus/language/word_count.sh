#!/usr/bin/env bash
#
# word_count.sh - count how often each word occurs in a text.
#
# The words become the keys of an associative array, and the counts become
# its values. Upper and lower case count as the same word.
#
# Usage: word_count.sh [-n TOP] [FILE]...
#   -n TOP   show only the TOP most common words (default 10)
#
# Without a file the script reads standard input.

set -euo pipefail

declare -A counts=()

usage() {
  echo "usage: ${0##*/} [-n TOP] [FILE]..." >&2
  exit 2
}

# Read text from standard input and add its words to the counts.
count_words() {
  local line word
  local -a words
  while IFS= read -r line || [[ -n "$line" ]]; do
    line=${line,,}
    # Each character that is not a letter becomes a space.
    line=${line//[^a-z]/ }
    read -r -a words <<< "$line"
    for word in "${words[@]}"; do
      counts[$word]=$(( ${counts[$word]:-0} + 1 ))
    done
  done
}

# Print "count word" for each key. The keys have no order of their own.
print_counts() {
  local word
  for word in "${!counts[@]}"; do
    printf '%6d %s\n' "${counts[$word]}" "$word"
  done
}

main() {
  local top=10 option
  while getopts ":n:" option; do
    case $option in
      n) top=$OPTARG ;;
      *) usage ;;
    esac
  done
  shift $(( OPTIND - 1 ))
  [[ "$top" =~ ^[1-9][0-9]*$ ]] || usage

  if (( $# == 0 )); then
    count_words
  else
    local file
    for file in "$@"; do
      if [[ ! -r "$file" ]]; then
        echo "error: cannot read $file" >&2
        exit 1
      fi
      count_words < "$file"
    done
  fi

  if (( ${#counts[@]} == 0 )); then
    echo "no words found" >&2
    exit 1
  fi

  # Sort by count, largest first, and by word when the counts are equal.
  # The process substitution avoids a broken pipe when the list is cut.
  local -a ranked
  mapfile -t ranked < <(print_counts | sort -k1,1nr -k2,2)
  printf '%s\n' "${ranked[@]:0:top}"
}

main "$@"
