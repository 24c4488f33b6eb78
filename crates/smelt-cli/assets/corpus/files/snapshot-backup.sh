#!/usr/bin/env bash
#
# snapshot-backup.sh - make snapshots that share their unchanged files.
#
# Each run makes a new folder with the date as its name, which looks like
# a full copy. A file that has not changed since the last snapshot is a
# hard link to the same file there, so it takes no extra space. The link
# called "latest" always points to the newest snapshot.
#
# Usage:
#   snapshot-backup.sh source_folder snapshot_folder
#
# To restore a file, simply copy it back:
#   cp snapshots/latest/letter.txt ~/documents/

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

main() {
  if (($# != 2)); then
    echo "usage: $(basename "$0") source_folder snapshot_folder" >&2
    exit 2
  fi

  command -v rsync >/dev/null || die "rsync is not installed"
  [[ -d "$1" ]] || die "no such folder: $1"

  local source base stamp new
  source="$(cd -- "$1" && pwd)"
  mkdir -p -- "$2"
  base="$(cd -- "$2" && pwd)"
  stamp="$(date +%Y-%m-%d_%H%M%S)"
  new="$base/$stamp"

  # A snapshot inside its own source would copy itself again and again.
  case "$base/" in
    "$source"/*) die "the snapshots must be outside of the source" ;;
  esac

  local -a options=(-a --delete)
  if [[ -d "$base/latest" ]]; then
    # The path behind latest, not the link, since the link will move.
    options+=(--link-dest "$(cd -- "$base/latest" && pwd -P)")
  fi

  # The slash after the source means: what is in it, not the folder.
  rsync "${options[@]}" -- "$source/" "$new.partial/"
  mv -- "$new.partial" "$new"

  # Make the new link beside the old one and swap them in one step.
  ln -s -- "$stamp" "$base/latest.new"
  mv -T -- "$base/latest.new" "$base/latest"

  echo "snapshot $stamp is ready"
  echo "snapshots so far: $(find "$base" -mindepth 1 -maxdepth 1 \
    -type d -name '[0-9]*' | wc -l)"
}

main "$@"
