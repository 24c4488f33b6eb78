#!/usr/bin/env bash
#
# db-dump.sh - dump a PostgreSQL database and keep only recent dumps.
#
# The dump is compressed and named after the database and the time, as
# in shop-20240131-0300.sql.gz. Old dumps of the same database are
# deleted, but only after the new one was written and tested.
#
# Usage: db-dump.sh DATABASE [DIR [KEEP]]
#   DIR    where to write the dumps (default: dumps)
#   KEEP   how many dumps to keep (default: 7)
#
# The server and the user come from PGHOST and PGUSER. Put the password
# in ~/.pgpass and never on a command line, where others can see it.

set -euo pipefail

die() {
  echo "db-dump: $*" >&2
  exit 1
}

# Dump into a temporary name first. With pipefail the function fails
# when pg_dump fails, even though gzip is happy.
write_dump() {
  local database=$1
  local file=$2
  if ! pg_dump --no-owner "$database" | gzip >"$file.part"; then
    rm -f "$file.part"
    die "could not dump $database"
  fi
  gzip --test <"$file.part" || die "$file.part is damaged"
  mv "$file.part" "$file"
}

# The names hold the time, so they sort from old to new. Delete from
# the front of the list until only KEEP names are left.
delete_old() {
  local dir=$1
  local database=$2
  local keep=$3
  local dumps=("$dir/$database"-????????-????.sql.gz)
  local extra=$((${#dumps[@]} - keep))
  local i
  for ((i = 0; i < extra; i++)); do
    echo "deleting ${dumps[i]}"
    rm "${dumps[i]}"
  done
}

main() {
  (($# >= 1)) || die "usage: db-dump.sh DATABASE [DIR [KEEP]]"
  local database=$1
  local dir=${2:-dumps}
  local keep=${3:-7}
  [[ $keep =~ ^[1-9][0-9]*$ ]] || die "KEEP must be at least 1"
  command -v pg_dump >/dev/null || die "pg_dump is not installed"

  # A dump holds private data, so only the owner may read it.
  umask 077
  mkdir -p "$dir"

  local file
  file=$dir/$database-$(date +%Y%m%d-%H%M).sql.gz
  write_dump "$database" "$file"
  echo "wrote $file ($(wc -c <"$file") bytes)"
  delete_old "$dir" "$database" "$keep"
}

main "$@"
