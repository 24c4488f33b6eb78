#!/usr/bin/env bash
#
# ini-value.sh - read and change values in an INI file.
#
# An INI file has sections in square brackets and lines "key = value":
#
#   [server]
#   host = example.com
#   port = 8080
#
# Lines that start with # or ; are comments and are kept as they are.
#
# Usage:
#   ini-value.sh get file section key
#   ini-value.sh set file section key value
#
# "get" fails with status 1 if there is no such key. "set" adds the key,
# and the section too, where they are missing.

set -euo pipefail

get_value() {
  awk -v section="$2" -v key="$3" '
    /^[ \t]*[#;]/ { next }
    /^\[/ { inside = ($0 == "[" section "]"); next }
    inside {
      at = index($0, "=")
      name = substr($0, 1, at - 1)
      value = substr($0, at + 1)
      gsub(/^[ \t]+|[ \t]+$/, "", name)
      gsub(/^[ \t]+|[ \t]+$/, "", value)
      if (at > 0 && name == key) { print value; found = 1; exit }
    }
    END { exit !found }
  ' "$1"
}

# Values go in through the environment, since awk -v would treat a
# backslash in them as the start of an escape sequence.
set_value() {
  local file="$1" new="$1.new"

  SECTION="$2" KEY="$3" VALUE="$4" awk '
    function put() {
      print ENVIRON["KEY"] " = " ENVIRON["VALUE"]
      done = 1
    }
    /^\[/ {
      # The section ends here and the key was not in it.
      if (inside && !done) put()
      inside = ($0 == "[" ENVIRON["SECTION"] "]")
    }
    inside && !done && /^[^#;=]+=/ {
      name = substr($0, 1, index($0, "=") - 1)
      gsub(/^[ \t]+|[ \t]+$/, "", name)
      if (name == ENVIRON["KEY"]) { put(); next }
    }
    { print }
    END {
      if (!done) {
        if (!inside) print "[" ENVIRON["SECTION"] "]"
        put()
      }
    }
  ' "$file" >"$new"
  mv -- "$new" "$file"
}

main() {
  if (($# < 4)) || [[ ! -f "$2" ]]; then
    echo "usage: $(basename "$0") get|set file section key [value]" >&2
    exit 2
  fi

  case "$1" in
    get) get_value "$2" "$3" "$4" ;;
    set) set_value "$2" "$3" "$4" "${5?the value is missing}" ;;
    *)
      echo "error: unknown action: $1" >&2
      exit 2
      ;;
  esac
}

main "$@"
