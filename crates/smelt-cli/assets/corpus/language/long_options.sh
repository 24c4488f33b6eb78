#!/usr/bin/env bash
#
# long_options.sh - parse options such as --name=VALUE and --name VALUE.
#
# The builtin getopts knows only single letters. For long names a loop with
# "case" is enough. This script prints a greeting card, so that you can see
# what each option does.
#
# Usage: long_options.sh [--to NAME] [--from NAME] [--shout] [--width N] TEXT

set -euo pipefail

usage() {
  cat <<HELP
usage: ${0##*/} [OPTION]... TEXT...
  -t, --to NAME      who receives the card (default: friend)
  -f, --from NAME    who sends the card (default: bash)
  -w, --width N      length of the border (default: 30)
      --shout        write the text in upper case
  -h, --help         show this help
HELP
}

die() {
  echo "${0##*/}: $*" >&2
  exit 2
}

# Called as: need_value OPTION NUMBER_OF_ARGUMENTS_LEFT
need_value() {
  (( $2 >= 2 )) || die "option $1 needs a value"
}

print_border() {
  local width=$1 border
  printf -v border '%*s' "$width" ""
  echo "${border// /-}"
}

main() {
  local to=friend from=bash width=30 shout=no
  local -a words=()

  while (( $# > 0 )); do
    case $1 in
      --*=*)
        # Turn "--to=ada" into "--to" "ada" and look at it again.
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
      -t|--to)    need_value "$1" $#; to=$2; shift 2 ;;
      -f|--from)  need_value "$1" $#; from=$2; shift 2 ;;
      -w|--width) need_value "$1" $#; width=$2; shift 2 ;;
      --shout)    shout=yes; shift ;;
      -h|--help)  usage; exit 0 ;;
      --)         shift; words+=("$@"); break ;;
      -?*)        die "unknown option $1" ;;
      *)          words+=("$1"); shift ;;
    esac
  done

  [[ "$width" =~ ^[1-9][0-9]?$ ]] || die "--width must be 1 to 99"
  (( ${#words[@]} > 0 )) || die "there is no text on the card"

  local text="${words[*]}"
  if [[ "$shout" == yes ]]; then
    text="${text^^}!"
  fi

  print_border "$width"
  echo "Dear $to,"
  echo "  $text"
  echo "Yours, $from"
  print_border "$width"
}

main "$@"
