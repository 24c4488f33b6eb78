#!/usr/bin/env bash
#
# csv-column.sh - print one or more columns of a CSV file by name.
#
# The first line of the file must hold the names of the columns. Fields
# may be quoted with double quotes, may then contain commas, and two
# double quotes inside a quoted field stand for one. A field may not
# contain a line break. The output is separated by tabs.
#
# Usage:
#   csv-column.sh file.csv name [name ...]
#   csv-column.sh file.csv            (lists the names)
#
# Example:
#   csv-column.sh people.csv city age | sort | uniq -c

set -euo pipefail

# awk splits at each comma, which is wrong inside quotes. The function
# split_csv goes through the line one character at a time instead.
read -r -d '' program <<'AWK' || true
function split_csv(line, out,    i, c, n, quoted, field) {
  n = 0
  field = ""
  quoted = 0
  for (i = 1; i <= length(line); i++) {
    c = substr(line, i, 1)
    if (quoted && c == "\"" && substr(line, i + 1, 1) == "\"") {
      field = field "\""
      i++
    } else if (c == "\"") {
      quoted = !quoted
    } else if (c == "," && !quoted) {
      out[++n] = field
      field = ""
    } else {
      field = field c
    }
  }
  out[++n] = field
  return n
}
{ sub(/\r$/, "") }
NR == 1 {
  columns = split_csv($0, header)
  if (wanted == "") {
    for (i = 1; i <= columns; i++) print header[i]
    exit
  }
  count = split(wanted, names, "\t")
  for (k = 1; k <= count; k++) {
    for (i = 1; i <= columns; i++) {
      if (header[i] == names[k]) position[k] = i
    }
    if (!(k in position)) {
      print "error: no column named " names[k] > "/dev/stderr"
      exit 1
    }
  }
  next
}
{
  split_csv($0, field)
  line = field[position[1]]
  for (k = 2; k <= count; k++) line = line "\t" field[position[k]]
  print line
}
AWK

main() {
  if (($# == 0)); then
    echo "usage: $(basename "$0") file.csv [name ...]" >&2
    exit 2
  fi

  local file="$1"
  shift
  if [[ ! -r "$file" ]]; then
    echo "error: cannot read $file" >&2
    exit 1
  fi

  # Join the names with tabs to hand them to awk as one variable.
  local IFS=$'\t'
  awk -v wanted="$*" "$program" "$file"
}

main "$@"
