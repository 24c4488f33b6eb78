#!/usr/bin/env bash
#
# caesar.sh - hide a text by moving each letter along the alphabet.
#
# With a shift of 3 the letter a becomes d, and z becomes c. This is a puzzle
# for children and a good exercise, but it is no protection for a real secret.
#
# Usage: caesar.sh encode|decode SHIFT < TEXT
#        caesar.sh all < TEXT      try each shift, to break the code

set -euo pipefail

lower=abcdefghijklmnopqrstuvwxyz
upper=ABCDEFGHIJKLMNOPQRSTUVWXYZ

usage() {
  echo "usage: ${0##*/} encode|decode SHIFT, or ${0##*/} all" >&2
  exit 2
}

# shift_text SHIFT TEXT - the shift is 0 to 25.
shift_text() {
  local shift=$1 text=$2
  local result="" char before i

  # The alphabet written twice, so that no letter falls off its end.
  local lower_twice=$lower$lower upper_twice=$upper$upper

  for (( i = 0; i < ${#text}; i++ )); do
    char=${text:i:1}
    if [[ "$lower" == *"$char"* ]]; then
      # The length of the part before the letter is its position.
      before=${lower%%"$char"*}
      result+=${lower_twice:${#before} + shift:1}
    elif [[ "$upper" == *"$char"* ]]; then
      before=${upper%%"$char"*}
      result+=${upper_twice:${#before} + shift:1}
    else
      result+=$char
    fi
  done
  printf '%s\n' "$result"
}

# Apply the shift to each line of standard input.
shift_lines() {
  local shift=$1 line
  while IFS= read -r line || [[ -n "$line" ]]; do
    shift_text "$shift" "$line"
  done
}

try_all() {
  local line shift
  IFS= read -r line || usage
  for (( shift = 1; shift < 26; shift++ )); do
    printf '%2d  ' "$shift"
    shift_text "$shift" "$line"
  done
}

main() {
  local action=${1:-} shift=${2:-}
  if [[ "$action" == all ]]; then
    try_all
    return 0
  fi

  [[ "$shift" =~ ^(0|[1-9][0-9]{0,3})$ ]] || usage
  shift=$(( shift % 26 ))
  case $action in
    encode) shift_lines "$shift" ;;
    # To go back by 3 is to go forward by 23.
    decode) shift_lines $(( (26 - shift) % 26 )) ;;
    *) usage ;;
  esac
}

main "$@"
