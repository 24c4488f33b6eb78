#!/usr/bin/env bash
#
# json-config.sh - read and change values in a JSON settings file.
#
# A key is written with dots, as in server.port. The file is replaced
# only after the new text was written completely, so that a crash can
# not leave half a file behind.
#
# Usage:
#   json-config.sh FILE get KEY
#   json-config.sh FILE set KEY VALUE
#   json-config.sh FILE del KEY
#   json-config.sh FILE keys
#
# VALUE may be a number, true, false or a JSON text. Anything that is
# not JSON is stored as a plain string.

set -euo pipefail

usage() {
  sed -n '/^# Usage:/,/^$/p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 2
}

# Run jq on the file and move the result over the old file.
rewrite() {
  local file=$1
  shift
  local temp
  temp=$(mktemp "$file.XXXXXX")
  if jq "$@" "$file" >"$temp"; then
    # Keep the old permissions, since mktemp makes a private file.
    chmod --reference="$file" "$temp"
    mv "$temp" "$file"
  else
    rm -f "$temp"
    return 1
  fi
}

get_value() {
  jq -r --arg key "$2" '
    getpath($key | split("."))
    | if . == null then error("no value for " + $key) else . end
  ' "$1"
}

set_value() {
  local value=$3
  if ! jq -e . <<<"$value" >/dev/null 2>&1; then
    case $value in
      false | null) ;;
      *) value=$(jq -n --arg text "$value" '$text') ;;
    esac
  fi
  rewrite "$1" --arg key "$2" --argjson value "$value" \
    'setpath($key | split("."); $value)'
}

# Print each key that holds a plain value and not another object.
list_keys() {
  jq -r '
    paths(type != "object" and type != "array")
    | map(tostring) | join(".")
  ' "$1"
}

main() {
  (($# >= 2)) || usage
  local file=$1
  local action=$2
  [[ -f $file ]] || echo '{}' >"$file"

  case $action:$# in
    get:3) get_value "$file" "$3" ;;
    set:4) set_value "$file" "$3" "$4" ;;
    del:3) rewrite "$file" --arg key "$3" 'delpaths([$key | split(".")])' ;;
    keys:2) list_keys "$file" ;;
    *) usage ;;
  esac
}

main "$@"
