#!/usr/bin/env bash
#
# error_report.sh - show where a script failed, with a list of the callers.
#
# "set -e" ends a script after an error, but it does not say why. The ERR
# trap in this file prints the command that failed, its status, and the
# functions that led to it. Copy the function and the trap line into your own
# script, or source this file.
#
# Usage: error_report.sh [deep|status|fine]
# Each word runs a different demo.

set -eEuo pipefail

# The option -E above makes functions and subshells inherit the trap.
report_error() {
  local status=$1 command=$2
  local depth
  echo "error: '$command' ended with status $status" >&2

  # FUNCNAME[0] is this function, so the list starts at 1.
  for (( depth = 1; depth < ${#FUNCNAME[@]}; depth++ )); do
    printf '  in %s, line %s of %s\n' \
      "${FUNCNAME[depth]}" \
      "${BASH_LINENO[depth - 1]}" \
      "${BASH_SOURCE[depth]##*/}" >&2
  done
}

trap 'report_error "$?" "$BASH_COMMAND"' ERR

# ----- Three demos. -----

read_settings() {
  local file=$1
  # This fails, because the file does not exist.
  grep -q "colour" "$file"
}

start_program() {
  read_settings "no-such-file.conf"
}

demo_deep() {
  echo "A function calls a function that fails."
  start_program
  echo "You never see this line."
}

demo_status() {
  echo "A command in a pipe fails, and pipefail notices."
  printf '%s\n' pear apple | sort | (exit 3)
}

demo_fine() {
  # A failure inside "if" or after "||" is expected, so the trap is silent.
  if grep -q "apple" <<< "pear"; then
    echo "There is an apple."
  else
    echo "There is no apple, and that is not an error."
  fi
  false || echo "This was handled as well."
}

main() {
  local demo=${1:-fine}
  case $demo in
    deep|status|fine) "demo_$demo" ;;
    *)
      echo "usage: ${0##*/} [deep|status|fine]" >&2
      exit 2
      ;;
  esac
}

main "$@"
