#!/usr/bin/env bash
#
# sqlite-backup.sh - copy a SQLite database while it is in use.
#
# A plain cp can catch the database in the middle of a change. The
# .backup command of sqlite3 takes the right locks and gives a copy
# that is whole. Afterwards the copy is checked, and the number of rows
# in each table is printed.
#
# Usage: sqlite-backup.sh DATABASE COPY

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

# Ask the database to look for damage. A good one answers "ok".
check_database() {
  local answer
  answer=$(sqlite3 "$1" 'PRAGMA integrity_check;')
  [[ $answer == ok ]]
}

print_row_counts() {
  local database=$1
  local table count
  sqlite3 "$database" \
    "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name;" |
    while IFS= read -r table; do
      # sqlite3 must not read the list of tables, so give it no input.
      count=$(sqlite3 "$database" \
        "SELECT count(*) FROM \"$table\";" </dev/null)
      printf '%8d  %s\n' "$count" "$table"
    done
}

main() {
  (($# == 2)) || die "usage: sqlite-backup.sh DATABASE COPY"
  local database=$1
  local copy=$2

  command -v sqlite3 >/dev/null || die "sqlite3 is not installed"
  # Without this test sqlite3 would create a new and empty database.
  [[ -f $database ]] || die "$database does not exist"
  [[ ! -e $copy ]] || die "$copy exists already"
  [[ $copy != *\'* ]] || die "the name of the copy has a quote in it"

  sqlite3 "$database" ".backup '$copy'"
  check_database "$copy" || die "the copy is damaged, do not use it"

  echo "copied $database to $copy"
  print_row_counts "$copy"
}

main "$@"
