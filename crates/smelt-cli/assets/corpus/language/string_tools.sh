#!/usr/bin/env bash
#
# string_tools.sh - common string jobs with parameter expansion alone.
#
# No sed, awk or tr is started, so these functions are quick even inside a
# long loop. Source the file to use the functions, or run it with the name of
# a function and its arguments.
#
# Usage: string_tools.sh FUNCTION ARGUMENT...
# Example: string_tools.sh trim "   too much space   "

set -euo pipefail

# Remove the white space at both ends.
trim() {
  local text=$1
  text=${text#"${text%%[![:space:]]*}"}
  text=${text%"${text##*[![:space:]]}"}
  printf '%s\n' "$text"
}

# Write the text backwards.
reverse() {
  local text=$1 result="" i
  for (( i = ${#text} - 1; i >= 0; i-- )); do
    result+=${text:i:1}
  done
  printf '%s\n' "$result"
}

# repeat TEXT COUNT
repeat() {
  local result="" i
  for (( i = 0; i < $2; i++ )); do
    result+=$1
  done
  printf '%s\n' "$result"
}

# Make the first letter of each word upper case.
title_case() {
  local -a words
  read -r -a words <<< "$1"
  words=("${words[@],,}")
  printf '%s\n' "${words[*]^}"
}

# count_char TEXT CHARACTER
count_char() {
  local only=${1//[!"$2"]/}
  printf '%s\n' "${#only}"
}

# starts_with TEXT PREFIX - the answer is the return code.
starts_with() {
  [[ "$1" == "$2"* ]]
}

# Succeed when the text reads the same in both directions.
is_palindrome() {
  local text=${1,,}
  text=${text//[^a-z0-9]/}
  [[ "$text" == "$(reverse "$text")" ]]
}

# shorten TEXT WIDTH - cut a long text and mark the cut with dots.
shorten() {
  local text=$1 width=$2
  if (( ${#text} > width )); then
    text="${text:0:width - 3}..."
  fi
  printf '%s\n' "$text"
}

main() {
  case ${1:-} in
    trim|reverse|repeat|title_case|count_char|shorten)
      "$@"
      ;;
    starts_with|is_palindrome)
      if "$@"; then echo yes; else echo no; fi
      ;;
    *)
      echo "usage: ${0##*/} FUNCTION ARGUMENT..." >&2
      exit 2
      ;;
  esac
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  main "$@"
fi
