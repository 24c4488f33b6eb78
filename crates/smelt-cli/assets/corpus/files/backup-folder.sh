#!/usr/bin/env bash
#
# backup-folder.sh - pack a folder into a dated archive and keep the
# newest few.
#
# The archive is first written under a temporary name and renamed only
# when it is complete. A backup that was interrupted can therefore never
# be mistaken for a good one. After that, old archives of the same folder
# are removed, so that at most KEEP of them are left.
#
# Usage:
#   backup-folder.sh source_folder backup_folder
#
# Environment:
#   KEEP   how many archives to keep (default 7)
#
# Example:
#   KEEP=14 backup-folder.sh ~/notes /mnt/backup

set -euo pipefail

keep="${KEEP:-7}"

die() {
  echo "error: $*" >&2
  exit 1
}

make_archive() {
  local source="$1" archive="$2"
  local partial="$archive.partial"
  local parent name
  parent="$(dirname -- "$source")"
  name="$(basename -- "$source")"

  # -C makes the paths inside the archive relative to the parent folder.
  if ! tar -czf "$partial" -C "$parent" -- "$name"; then
    rm -f -- "$partial"
    die "tar could not pack $source"
  fi

  # Reading the list back is a cheap test that the archive is whole.
  if ! tar -tzf "$partial" >/dev/null; then
    rm -f -- "$partial"
    die "the new archive cannot be read back"
  fi
  mv -- "$partial" "$archive"
}

# The names hold the date and time, so sorting by name sorts by age.
remove_old() {
  local target="$1" name="$2"
  local -a archives=("$target/$name"-????????-??????.tar.gz)
  local extra=$((${#archives[@]} - keep))
  local i

  for ((i = 0; i < extra; i++)); do
    echo "remove ${archives[i]}"
    rm -f -- "${archives[i]}"
  done
}

main() {
  if (($# != 2)); then
    echo "usage: $(basename "$0") source_folder backup_folder" >&2
    exit 2
  fi

  [[ -d "$1" ]] || die "no such folder: $1"
  [[ "$keep" =~ ^[1-9][0-9]*$ ]] || die "KEEP must be a whole number above 0"

  local source target name stamp archive
  source="$(cd -- "$1" && pwd)"
  mkdir -p -- "$2"
  target="$(cd -- "$2" && pwd)"
  name="$(basename -- "$source")"
  stamp="$(date +%Y%m%d-%H%M%S)"
  archive="$target/$name-$stamp.tar.gz"

  make_archive "$source" "$archive"
  echo "wrote $archive ($(du -h -- "$archive" | cut -f 1))"
  remove_old "$target" "$name"
}

main "$@"
