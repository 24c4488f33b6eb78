#!/usr/bin/env bash
#
# backup_dir.sh - make a dated archive of a directory, with a checksum.
#
# The archive is first written under a temporary name and renamed only when
# it is complete. So a file with the final name is always a whole backup,
# even if the machine loses power in the middle of the run. Old archives
# beyond the newest KEEP are removed.
#
# Usage: backup_dir.sh SOURCE_DIR BACKUP_DIR [KEEP]
#   KEEP   how many archives to keep (default 7)

set -euo pipefail

part_file=""

die() {
  echo "backup_dir: $*" >&2
  exit 1
}

# Remove an unfinished archive when the script ends for any reason.
cleanup() {
  if [[ -n "$part_file" ]]; then
    rm -f "$part_file"
  fi
}

# Write the archive and its checksum, then give both their final names.
make_archive() {
  local source="$1" target="$2"
  local parent name
  parent="$(dirname "$source")"
  name="$(basename "$source")"

  part_file="$target.part"
  tar -czf "$part_file" -C "$parent" "$name"
  # Read the archive once, to be sure that it can be unpacked.
  tar -tzf "$part_file" >/dev/null
  mv "$part_file" "$target"
  (cd "$(dirname "$target")" && sha256sum "$(basename "$target")" >"$(basename "$target").sha256")
}

# The date in the name sorts correctly as text, so the oldest archives come
# first in the list.
remove_old() {
  local dir="$1" prefix="$2" keep="$3" i
  local archives=("$dir/$prefix"-[0-9]*.tar.gz)
  for (( i = 0; i < ${#archives[@]} - keep; i++ )); do
    echo "removing old archive ${archives[i]}"
    rm -f "${archives[i]}" "${archives[i]}.sha256"
  done
}

main() {
  (( $# >= 2 )) || die "usage: backup_dir.sh SOURCE_DIR BACKUP_DIR [KEEP]"
  local source="${1%/}" dest="${2%/}" keep="${3:-7}"
  [[ -d "$source" ]] || die "no such directory: $source"
  [[ "$keep" =~ ^[1-9][0-9]*$ ]] || die "KEEP must be 1 or more"

  mkdir -p "$dest"
  local prefix archive
  prefix="$(basename "$source")"
  archive="$dest/$prefix-$(date +%Y%m%d-%H%M%S).tar.gz"
  trap cleanup EXIT

  make_archive "$source" "$archive"
  echo "wrote $archive"
  remove_old "$dest" "$prefix" "$keep"
}

main "$@"
