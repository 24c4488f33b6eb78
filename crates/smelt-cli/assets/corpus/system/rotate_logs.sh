#!/usr/bin/env bash
#
# rotate_logs.sh - rotate a log file and keep a few old copies.
#
# app.log becomes app.log.1, app.log.1 becomes app.log.2.gz, and so on. The
# oldest copy is removed. The newest old copy stays uncompressed, because a
# program may still be writing to it for a moment.
#
# Usage: rotate_logs.sh [-k KEEP] [-s SIZE_KB] FILE...
#   -k KEEP      how many old copies to keep (default 4)
#   -s SIZE_KB   rotate only when the file is at least this big (default 0)

set -euo pipefail

keep=4
min_kb=0

die() {
  echo "rotate_logs: $*" >&2
  exit 2
}

# True if the file has reached the smallest size for rotation.
big_enough() {
  local bytes
  bytes="$(wc -c <"$1")"
  (( bytes > 0 && bytes >= min_kb * 1024 ))
}

rotate() {
  local file="$1" i

  # Walk from the oldest copy to the newest, so nothing is overwritten.
  rm -f "$file.$keep" "$file.$keep.gz"
  for (( i = keep - 1; i >= 1; i-- )); do
    if [[ -e "$file.$i.gz" ]]; then
      mv "$file.$i.gz" "$file.$((i + 1)).gz"
    elif [[ -e "$file.$i" ]]; then
      gzip -c "$file.$i" >"$file.$((i + 1)).gz"
      rm -f "$file.$i"
    fi
  done

  # Copy and then empty the file in place. The program keeps its open file
  # and does not need to be told about the rotation.
  cp -p "$file" "$file.1"
  : >"$file"
  echo "rotated $file"
}

main() {
  local option file
  while getopts ':k:s:' option; do
    case "$option" in
      k) keep="$OPTARG" ;;
      s) min_kb="$OPTARG" ;;
      *) die "usage: rotate_logs.sh [-k KEEP] [-s SIZE_KB] FILE..." ;;
    esac
  done
  shift $((OPTIND - 1))

  (( $# > 0 )) || die "no log file given"
  [[ "$keep" =~ ^[1-9][0-9]*$ ]] || die "KEEP must be 1 or more"
  [[ "$min_kb" =~ ^[0-9]+$ ]] || die "SIZE_KB must be a whole number"

  for file in "$@"; do
    if [[ ! -f "$file" ]]; then
      echo "rotate_logs: skipping $file, not a regular file" >&2
    elif big_enough "$file"; then
      rotate "$file"
    fi
  done
}

main "$@"
