#!/usr/bin/env bash
#
# binary_search.sh - find a word in a sorted list in very few steps.
#
# A binary search looks at the middle of the list, and then throws away the
# half that cannot hold the word. A list of one thousand words needs only ten
# looks. The script counts them, and compares with a search from the start.
#
# Usage: binary_search.sh WORD < SORTED_WORDS
# The words must be sorted with: LC_ALL=C sort

set -euo pipefail

# Compare letters by their byte values, as the sort did.
export LC_ALL=C

words=()
looks=0
found=-1

check_sorted() {
  local i
  for (( i = 1; i < ${#words[@]}; i++ )); do
    if [[ "${words[i]}" < "${words[i - 1]}" ]]; then
      echo "error: '${words[i]}' on line $(( i + 1 )) is out of order" >&2
      exit 2
    fi
  done
}

binary_search() {
  local wanted=$1
  local low=0 high=$(( ${#words[@]} - 1 )) middle
  looks=0
  found=-1

  while (( low <= high )); do
    middle=$(( (low + high) / 2 ))
    looks=$(( looks + 1 ))
    if [[ "${words[middle]}" == "$wanted" ]]; then
      found=$middle
      return 0
    elif [[ "${words[middle]}" < "$wanted" ]]; then
      low=$(( middle + 1 ))
    else
      high=$(( middle - 1 ))
    fi
  done
  return 1
}

linear_search() {
  local wanted=$1 word
  looks=0
  for word in "${words[@]}"; do
    looks=$(( looks + 1 ))
    if [[ "$word" == "$wanted" ]]; then
      return 0
    fi
  done
  return 1
}

main() {
  if (( $# != 1 )); then
    echo "usage: ${0##*/} WORD < SORTED_WORDS" >&2
    exit 2
  fi

  mapfile -t words
  check_sorted

  local status=0
  if binary_search "$1"; then
    echo "'$1' is on line $(( found + 1 )) of ${#words[@]}"
  else
    echo "'$1' is not in the list"
    status=1
  fi
  echo "binary search: $looks looks"

  linear_search "$1" || true
  echo "linear search: $looks looks"
  exit "$status"
}

main "$@"
