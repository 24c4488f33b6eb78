#!/usr/bin/env bash
#
# load_env.sh - run a command with variables from an environment file.
#
# An environment file has lines of the form NAME=value. It is tempting to
# load it with "source", but then any line in it is run as code. This script
# reads the file as plain text instead: it takes the name and the value, and
# never runs anything from the file.
#
# Usage: load_env.sh FILE COMMAND [ARG...]
# Example: load_env.sh app.env ./server --port 8080

set -euo pipefail

# Remove one pair of matching quotes around a value.
strip_quotes() {
  local value="$1"
  if [[ "$value" == \"*\" && ${#value} -ge 2 ]]; then
    value="${value:1:${#value}-2}"
  elif [[ "$value" == \'*\' && ${#value} -ge 2 ]]; then
    value="${value:1:${#value}-2}"
  fi
  printf '%s' "$value"
}

load_file() {
  local file="$1" line name value
  local number=0
  # The test after || handles a last line without a newline.
  while IFS= read -r line || [[ -n "$line" ]]; do
    number=$((number + 1))
    # Skip empty lines and comments.
    [[ "$line" =~ ^[[:space:]]*(#|$) ]] && continue
    line="${line#export }"
    if [[ "$line" != *=* ]]; then
      echo "load_env: $file line $number: no equals sign" >&2
      return 1
    fi
    name="${line%%=*}"
    value="${line#*=}"
    if ! [[ "$name" =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
      echo "load_env: $file line $number: bad name '$name'" >&2
      return 1
    fi
    export "$name=$(strip_quotes "$value")"
  done <"$file"
}

main() {
  if (( $# < 2 )); then
    echo "Usage: load_env.sh FILE COMMAND [ARG...]" >&2
    return 2
  fi
  local file="$1"
  shift
  if [[ ! -r "$file" ]]; then
    echo "load_env: cannot read $file" >&2
    return 1
  fi
  load_file "$file"
  # exec replaces this shell, so signals go straight to the command.
  exec "$@"
}

main "$@"
