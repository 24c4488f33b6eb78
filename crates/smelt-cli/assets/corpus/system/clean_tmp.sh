#!/usr/bin/env bash
#
# clean_tmp.sh - remove old files from a scratch directory, with care.
#
# The script shows which files are older than some days. It deletes them
# only with --delete. It works only on a directory that holds a marker file
# named .scratch, so a typing mistake cannot empty your home directory.
#
# Usage: clean_tmp.sh [--delete] DIRECTORY [DAYS]
#   DAYS   age in days (default 14)

set -euo pipefail

die() {
  echo "clean_tmp: $*" >&2
  exit 2
}

# List old regular files, each one ended by a zero byte, because a file name
# may hold spaces and even newlines. The option -xdev keeps find inside one
# file system.
old_files() {
  find "$1" -xdev -type f ! -name .scratch -mtime "+$2" -print0
}

main() {
  local delete=no
  if [[ "${1:-}" == "--delete" ]]; then
    delete=yes
    shift
  fi
  (( $# >= 1 )) || die "usage: clean_tmp.sh [--delete] DIRECTORY [DAYS]"

  local dir="$1" days="${2:-14}"
  [[ -d "$dir" ]] || die "no such directory: $dir"
  [[ "$days" =~ ^[0-9]+$ ]] || die "DAYS must be a whole number"
  [[ -e "$dir/.scratch" ]] || die "$dir has no .scratch file, not touching it"

  local file size count=0 bytes=0
  while IFS= read -r -d '' file; do
    size="$(stat -c %s "$file")"
    count=$((count + 1))
    bytes=$((bytes + size))
    if [[ "$delete" == "yes" ]]; then
      rm -f -- "$file"
    else
      printf '%10d  %s\n' "$size" "$file"
    fi
  done < <(old_files "$dir" "$days")

  if [[ "$delete" == "yes" ]]; then
    # Directories that are empty now are not needed any more.
    find "$dir" -xdev -mindepth 1 -type d -empty -delete
    echo "deleted $count files, $((bytes / 1024)) KB"
  else
    echo "would delete $count files, $((bytes / 1024)) KB"
  fi
}

main "$@"
