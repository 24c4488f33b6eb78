#!/usr/bin/env bash
#
# read_config.sh - read settings from a file of "name = value" lines.
#
# The file is read as data. It would be shorter to source it, but then each
# line would run as code, and a mistake in the file could do harm.
#
# Usage: read_config.sh FILE [NAME]
# With a NAME the script prints that value, else it prints all settings.
#
# The file may look like this:
#   # settings of the garden robot
#   name = "Rosie"
#   speed = 3

set -euo pipefail

# The known settings and their defaults.
declare -A config=(
  [name]=robot
  [speed]=1
  [colour]=green
)

warn() {
  echo "warning: $*" >&2
}

load_config() {
  local file=$1 line name value number=0
  local pattern='^[[:space:]]*([a-z_]+)[[:space:]]*=[[:space:]]*(.*)$'

  while IFS= read -r line || [[ -n "$line" ]]; do
    number=$(( number + 1 ))

    # Skip empty lines and comments.
    if [[ "$line" =~ ^[[:space:]]*(#|$) ]]; then
      continue
    fi
    if ! [[ "$line" =~ $pattern ]]; then
      warn "$file:$number: not a setting: $line"
      continue
    fi

    name=${BASH_REMATCH[1]}
    value=${BASH_REMATCH[2]}
    # Cut the spaces at the end, and then one pair of quotes.
    value=${value%"${value##*[![:space:]]}"}
    if [[ "$value" == \"*\" ]]; then
      value=${value#\"}
      value=${value%\"}
    fi

    # The "+" form is not empty when the key exists, even without a value.
    if [[ -z "${config[$name]+known}" ]]; then
      warn "$file:$number: unknown setting '$name'"
      continue
    fi
    config[$name]=$value
  done < "$file"
}

main() {
  if (( $# < 1 || $# > 2 )); then
    echo "usage: ${0##*/} FILE [NAME]" >&2
    exit 2
  fi
  if [[ ! -r "$1" ]]; then
    echo "error: cannot read $1" >&2
    exit 1
  fi

  load_config "$1"

  if (( $# == 2 )); then
    if [[ -z "${config[$2]+known}" ]]; then
      echo "error: there is no setting '$2'" >&2
      exit 1
    fi
    printf '%s\n' "${config[$2]}"
    return 0
  fi

  local name
  for name in "${!config[@]}"; do
    printf '%s = %s\n' "$name" "${config[$name]}"
  done | sort
}

main "$@"
