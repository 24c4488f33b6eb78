#!/usr/bin/env bash
#
# roman.sh - convert between Roman and ordinary numbers.
#
# Usage: roman.sh NUMBER...
# Examples:
#   roman.sh 2024       prints MMXXIV
#   roman.sh MCMXCIX    prints 1999

set -euo pipefail

# Two arrays side by side: the value at each place belongs to the sign at
# the same place. Pairs such as CM and IV are part of the list.
worth=(1000 900 500 400 100 90 50 40 10 9 5 4 1)
signs=(M CM D CD C XC L XL X IX V IV I)

to_roman() {
  local number=$1 result="" i
  for i in "${!worth[@]}"; do
    while (( number >= worth[i] )); do
      result+=${signs[i]}
      number=$(( number - worth[i] ))
    done
  done
  echo "$result"
}

from_roman() {
  local text=${1^^} total=0 i
  for i in "${!signs[@]}"; do
    # Take the sign off the front of the text for as long as it is there.
    while [[ "$text" == "${signs[i]}"* ]]; do
      total=$(( total + worth[i] ))
      text=${text#"${signs[i]}"}
    done
  done
  echo "$total"
}

convert() {
  local value=$1 number
  if [[ "$value" =~ ^[1-9][0-9]{0,3}$ ]] && (( value < 4000 )); then
    to_roman "$value"
    return 0
  fi

  if [[ "${value^^}" =~ ^[MDCLXVI]+$ ]]; then
    number=$(from_roman "$value")
    # A wrong order such as IIX does not survive the way back.
    if [[ "$(to_roman "$number")" == "${value^^}" ]]; then
      echo "$number"
      return 0
    fi
  fi

  echo "error: '$value' is not a Roman number or a number below 4000" >&2
  return 1
}

main() {
  if (( $# == 0 )); then
    echo "usage: ${0##*/} NUMBER..." >&2
    exit 2
  fi

  local value status=0
  for value in "$@"; do
    convert "$value" || status=1
  done
  exit "$status"
}

main "$@"
