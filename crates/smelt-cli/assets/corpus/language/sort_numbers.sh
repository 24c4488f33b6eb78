#!/usr/bin/env bash
#
# sort_numbers.sh - sort whole numbers with three classic algorithms.
#
# In daily work you should call "sort -n". This script exists to show how
# arrays, loops and swaps look in bash.
#
# Usage: sort_numbers.sh bubble|insertion|quick NUMBER...
# Example: sort_numbers.sh quick 5 -2 9 1

set -euo pipefail

usage() {
  echo "usage: ${0##*/} bubble|insertion|quick NUMBER..." >&2
  exit 2
}

# All three functions sort the global array "items" in place.

bubble_sort() {
  local end i tmp swapped=1
  for (( end = ${#items[@]} - 1; end > 0 && swapped; end-- )); do
    swapped=0
    for (( i = 0; i < end; i++ )); do
      if (( items[i] > items[i + 1] )); then
        tmp=${items[i]}
        items[i]=${items[i + 1]}
        items[i + 1]=$tmp
        swapped=1
      fi
    done
  done
}

insertion_sort() {
  local i j value
  for (( i = 1; i < ${#items[@]}; i++ )); do
    value=${items[i]}
    # Move larger items one place to the right to make room.
    for (( j = i; j > 0 && items[j - 1] > value; j-- )); do
      items[j]=${items[j - 1]}
    done
    items[j]=$value
  done
}

quick_sort() {
  local low=${1:-0}
  local high=${2:-$(( ${#items[@]} - 1 ))}
  if (( low >= high )); then
    return 0
  fi

  local pivot=${items[high]} store=$low i tmp
  for (( i = low; i < high; i++ )); do
    if (( items[i] < pivot )); then
      tmp=${items[i]}
      items[i]=${items[store]}
      items[store]=$tmp
      store=$(( store + 1 ))
    fi
  done
  items[high]=${items[store]}
  items[store]=$pivot

  quick_sort "$low" $(( store - 1 ))
  quick_sort $(( store + 1 )) "$high"
}

main() {
  (( $# >= 2 )) || usage
  local method=$1
  shift

  local number
  for number in "$@"; do
    if ! [[ "$number" =~ ^-?(0|[1-9][0-9]*)$ ]]; then
      echo "error: '$number' is not a whole number" >&2
      exit 1
    fi
  done

  local -a items=("$@")
  case $method in
    bubble|insertion|quick) "${method}_sort" ;;
    *) usage ;;
  esac
  echo "${items[*]}"
}

main "$@"
