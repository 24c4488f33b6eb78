#!/usr/bin/env bash
#
# number_base.sh - write a number in another base.
#
# Computers like base 2 and base 16, people like base 10. The script converts
# between any two bases from 2 to 36.
#
# Usage: number_base.sh NUMBER FROM TO
# Examples:
#   number_base.sh 255 10 16     prints ff
#   number_base.sh 1011 2 10     prints 11

set -euo pipefail

digits=0123456789abcdefghijklmnopqrstuvwxyz

die() {
  echo "error: $*" >&2
  exit 1
}

check_base() {
  [[ "$1" =~ ^[1-9][0-9]?$ ]] && (( $1 >= 2 && $1 <= 36 )) \
    || die "a base is a number from 2 to 36, not '$1'"
}

# Bash reads "16#ff" as the number ff in base 16. Each digit is checked
# first, so that the message is ours and nothing strange is evaluated.
to_decimal() {
  local number=$1 base=$2
  local allowed=${digits:0:base}
  if [[ -z "$number" || -n "${number//["$allowed"]/}" ]]; then
    die "'$number' is not a number in base $base"
  fi
  echo $(( $base#$number ))
}

# Divide again and again. The remainders are the digits, last one first.
from_decimal() {
  local number=$1 base=$2 result=""
  while (( number > 0 )); do
    result=${digits:number % base:1}$result
    number=$(( number / base ))
  done
  echo "${result:-0}"
}

main() {
  if (( $# != 3 )); then
    echo "usage: ${0##*/} NUMBER FROM TO" >&2
    exit 2
  fi
  local number=${1,,} from=$2 to=$3 value
  check_base "$from"
  check_base "$to"
  # Twelve digits in base 36 still fit into 63 bits.
  (( ${#number} <= 12 || from <= 10 && ${#number} <= 18 )) \
    || die "the number is too long"

  value=$(to_decimal "$number" "$from")
  from_decimal "$value" "$to"
}

main "$@"
