#!/usr/bin/env bash
#
# unique-lines.sh - drop repeated lines but keep the order.
#
# The usual way, sort -u, puts the lines in a new order. This script
# keeps the first of each group of equal lines where it stands. It can
# also ignore case, or look at one field only.
#
# Usage:
#   unique-lines.sh [-i] [-f field] [-c] [file ...]
#
# Options:
#   -i         ignore upper and lower case
#   -f field   compare only this field (fields are split at white space)
#   -c         do not print lines, only how many would be dropped
#
# Example: keep the first request of each client of a log.
#   unique-lines.sh -f 1 access.log

set -euo pipefail

fold=0
field=0
count_only=0

usage() {
  echo "usage: $(basename "$0") [-i] [-f field] [-c] [file ...]" >&2
  exit 2
}

while getopts ":if:c" option; do
  case "$option" in
    i) fold=1 ;;
    f) field="$OPTARG" ;;
    c) count_only=1 ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))

[[ "$field" =~ ^[0-9]+$ ]] || usage

# In awk $0 is the whole line, so field 0 means: compare all of it. The
# test seen[key]++ is false the first time and true from then on.
awk -v fold="$fold" -v field="$field" -v count_only="$count_only" '
  {
    key = $field
    if (fold) key = tolower(key)
    if (seen[key]++) {
      dropped++
    } else if (!count_only) {
      print
    }
  }
  END { if (count_only) print dropped + 0 }
' "$@"
