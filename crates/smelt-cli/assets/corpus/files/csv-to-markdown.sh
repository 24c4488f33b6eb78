#!/usr/bin/env bash
#
# csv-to-markdown.sh - turn a simple CSV file into a Markdown table.
#
# The columns are padded with spaces, so that the table is also easy to
# read as plain text. The file is read twice: first to find the width of
# each column, then to print it. Quoted fields are not supported.
#
# Usage:
#   csv-to-markdown.sh [-d delimiter] file.csv
#
# Example:
#   $ csv-to-markdown.sh fruit.csv
#   | name  | price |
#   | ----- | ----- |
#   | apple | 3     |
#   | plum  | 12    |

set -euo pipefail

delimiter=","

while getopts ":d:" option; do
  case "$option" in
    d) delimiter="$OPTARG" ;;
    *)
      echo "usage: $(basename "$0") [-d delimiter] file.csv" >&2
      exit 2
      ;;
  esac
done
shift $((OPTIND - 1))

file="${1:-}"
if [[ ! -f "$file" ]]; then
  echo "error: give the name of a CSV file" >&2
  exit 2
fi

# NR counts all lines and FNR counts the lines of the current file, so
# NR == FNR is only true while the file is read for the first time.
awk -F "$delimiter" '
  { sub(/\r$/, "") }

  NR == FNR {
    for (i = 1; i <= NF; i++) {
      if (length($i) > width[i]) width[i] = length($i)
    }
    if (NF > columns) columns = NF
    next
  }

  {
    row = "|"
    for (i = 1; i <= columns; i++) {
      row = row sprintf(" %-" (width[i] + 0) "s |", $i)
    }
    print row
  }

  FNR == 1 {
    row = "|"
    for (i = 1; i <= columns; i++) {
      dashes = sprintf("%" (width[i] + 0) "s", "")
      gsub(/ /, "-", dashes)
      row = row " " dashes " |"
    }
    print row
  }
' "$file" "$file"
