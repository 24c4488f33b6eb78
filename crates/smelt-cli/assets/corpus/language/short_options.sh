#!/usr/bin/env bash
#
# short_options.sh - repeat a line of text, with options read by getopts.
#
# The script shows the usual shape of an option loop: flags without a value,
# options that need a value, an error for each mistake, and "--" to end the
# options.
#
# Usage: short_options.sh [-h] [-n] [-u] [-c COUNT] [-s TEXT] WORD...
#   -h        show this help
#   -n        number the lines
#   -u        print in upper case
#   -c COUNT  how many times to print the line (default 1)
#   -s TEXT   put TEXT between the words (default one space)

set -euo pipefail

# Print the comment block at the top of this file as the help text.
usage() {
  sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
}

fail_usage() {
  echo "${0##*/}: $*" >&2
  echo "Try '${0##*/} -h' for help." >&2
  exit 2
}

# join_words SEPARATOR WORD... - the separator may have any length.
join_words() {
  local separator=$1 result=$2 word
  shift 2
  for word in "$@"; do
    result+="$separator$word"
  done
  printf '%s\n' "$result"
}

main() {
  local number=no upper=no count=1 separator=" "
  local option

  # The first colon makes getopts silent, so that we write the messages.
  # A colon after a letter means that the option takes a value.
  while getopts ":hnuc:s:" option; do
    case $option in
      h) usage; exit 0 ;;
      n) number=yes ;;
      u) upper=yes ;;
      c) count=$OPTARG ;;
      s) separator=$OPTARG ;;
      :) fail_usage "option -$OPTARG needs a value" ;;
      *) fail_usage "unknown option -$OPTARG" ;;
    esac
  done
  # Drop the options, and keep only the words.
  shift $(( OPTIND - 1 ))

  (( $# > 0 )) || fail_usage "no words given"
  [[ "$count" =~ ^[1-9][0-9]*$ ]] || fail_usage "bad count '$count'"

  local line i
  line=$(join_words "$separator" "$@")
  if [[ "$upper" == yes ]]; then
    line=${line^^}
  fi

  for (( i = 1; i <= count; i++ )); do
    if [[ "$number" == yes ]]; then
      printf '%3d  %s\n' "$i" "$line"
    else
      printf '%s\n' "$line"
    fi
  done
}

main "$@"
