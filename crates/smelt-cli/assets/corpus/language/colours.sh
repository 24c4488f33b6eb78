#!/usr/bin/env bash
#
# colours.sh - print coloured text, but only when a terminal can show it.
#
# Colours are made with escape codes. In a file or a pipe these codes are
# only noise, so the script turns them off when the output is not a terminal,
# or when the variable NO_COLOR is set.
#
# Usage: colours.sh [--always|--never] [COLOUR TEXT...]
# Without a colour the script shows all of them.

set -euo pipefail

declare -A code=(
  [black]=30 [red]=31 [green]=32 [yellow]=33
  [blue]=34 [magenta]=35 [cyan]=36 [white]=37
)

use_colour=no

# Decide whether colours make sense. File number 1 is standard output.
detect_terminal() {
  if [[ -t 1 && -z "${NO_COLOR:-}" && "${TERM:-dumb}" != dumb ]]; then
    use_colour=yes
  fi
}

# paint COLOUR TEXT... - print the text, and reset the colour after it.
paint() {
  local name=$1
  shift
  if [[ "$use_colour" == yes ]]; then
    printf '\033[%sm%s\033[0m\n' "${code[$name]}" "$*"
  else
    printf '%s\n' "$*"
  fi
}

# Status lines that other scripts may like to copy.
good() { paint green "[ ok ] $*"; }
bad()  { paint red "[fail] $*"; }
note() { paint yellow "[note] $*"; }

show_all() {
  local name
  while read -r name; do
    paint "$name" "This is $name."
  done < <(printf '%s\n' "${!code[@]}" | sort)
  good "a check that passed"
  bad "a check that failed"
  note "something to remember"
}

main() {
  detect_terminal
  case ${1:-} in
    --always) use_colour=yes; shift ;;
    --never)  use_colour=no; shift ;;
  esac

  if (( $# == 0 )); then
    show_all
    return 0
  fi

  local name=$1
  shift
  if [[ -z "${code[$name]:-}" ]]; then
    echo "error: unknown colour '$name', choose from: ${!code[*]}" >&2
    exit 2
  fi
  paint "$name" "$@"
}

main "$@"
