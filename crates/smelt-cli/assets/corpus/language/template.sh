#!/usr/bin/env bash
#
# template.sh - fill in a text template.
#
# A template is a text with names in double braces, such as {{name}}. The
# script replaces each name with the value you give. It never runs the text
# as code, so a template from a stranger is safe to use.
#
# Usage: template.sh [-f FILE] NAME=VALUE...
#   -f FILE   read the template from FILE (default: a built-in letter)
#
# Example: template.sh name=Ada day=Monday

set -euo pipefail

declare -A values=()

# The quotes around 'LETTER' stop the shell from expanding anything inside.
default_template() {
  cat <<'LETTER'
Dear {{name}},

the library is closed on {{day}}. Please bring your books
back one day later. There is no fee of $5 this time.

Yours, the library
LETTER
}

# Without the quotes the shell does expand variables and commands.
usage() {
  cat <<HELP
usage: ${0##*/} [-f FILE] NAME=VALUE...
HELP
}

# Replace each known name in the text on standard input.
fill() {
  local text name
  text=$(cat)
  for name in "${!values[@]}"; do
    text=${text//"{{$name}}"/"${values[$name]}"}
  done
  printf '%s\n' "$text"
}

main() {
  local file="" option
  while getopts ":f:h" option; do
    case $option in
      f) file=$OPTARG ;;
      h) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  shift $(( OPTIND - 1 ))

  local pair
  for pair in "$@"; do
    if ! [[ "$pair" =~ ^[a-z_]+= ]]; then
      echo "error: '$pair' is not NAME=VALUE" >&2
      exit 2
    fi
    # Cut at the first equals sign. The value may contain more of them.
    values[${pair%%=*}]=${pair#*=}
  done

  local result
  if [[ -n "$file" ]]; then
    result=$(fill < "$file")
  else
    result=$(default_template | fill)
  fi

  printf '%s\n' "$result"
  if [[ "$result" =~ \{\{([a-z_]+)\}\} ]]; then
    echo "warning: no value for '${BASH_REMATCH[1]}'" >&2
    exit 1
  fi
}

main "$@"
