#!/usr/bin/env bash
#
# load-env.sh - run a command with the settings from an .env file.
#
# An .env file has one KEY=VALUE pair per line. It is tempting to use
# "source .env", but then any command in the file would be executed.
# This script only reads the pairs and never runs them as code. A value
# that is already set in the environment wins over the file.
#
# Usage: load-env.sh [-f FILE] COMMAND...
# Example: load-env.sh -f test.env make test

set -euo pipefail

# Remove one pair of quotes around a value, if there is one.
strip_quotes() {
  local value=$1
  if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then
    value=${BASH_REMATCH[1]}
  fi
  printf '%s' "$value"
}

load_file() {
  local file=$1
  local number=0
  local line key value
  # The last line counts as well when its line end is missing.
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    if [[ $line =~ ^[[:space:]]*(#|$) ]]; then
      continue
    fi
    if [[ ! $line =~ ^(export )?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; then
      echo "error: $file, line $number: not KEY=VALUE" >&2
      return 1
    fi
    key=${BASH_REMATCH[2]}
    value=$(strip_quotes "${BASH_REMATCH[3]}")
    if [[ -z ${!key+set} ]]; then
      export "$key=$value"
    fi
  done <"$file"
}

main() {
  local env_file=.env
  if [[ ${1:-} == -f ]]; then
    env_file=${2:?the name of the file is missing}
    shift 2
  fi
  if (($# == 0)); then
    echo "usage: load-env.sh [-f FILE] COMMAND..." >&2
    exit 2
  fi
  if [[ ! -r $env_file ]]; then
    echo "error: can not read $env_file" >&2
    exit 1
  fi
  load_file "$env_file"
  exec "$@"
}

main "$@"
