#!/usr/bin/env bash
#
# extract-any.sh - unpack an archive, whatever its kind.
#
# The kind is taken from the end of the name. Each archive is unpacked
# into a new folder of its own, so that an archive without a top folder
# cannot scatter its files all over the place.
#
# Usage:
#   extract-any.sh archive [archive ...]
#
# Known kinds: .tar .tar.gz .tgz .tar.bz2 .tar.xz .zip .gz

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

need() {
  command -v "$1" >/dev/null || die "this needs the program $1"
}

# The name of the new folder: the archive without its ending.
folder_name() {
  local name
  name="$(basename -- "$1")"
  case "$name" in
    *.tar.*) echo "${name%.tar.*}" ;;
    *) echo "${name%.*}" ;;
  esac
}

unpack() {
  local archive="$1" folder="$2"

  case "$archive" in
    *.tar) tar -xf "$archive" -C "$folder" ;;
    *.tar.gz | *.tgz) tar -xzf "$archive" -C "$folder" ;;
    *.tar.bz2) tar -xjf "$archive" -C "$folder" ;;
    *.tar.xz) tar -xJf "$archive" -C "$folder" ;;
    *.zip)
      need unzip
      unzip -q "$archive" -d "$folder"
      ;;
    *.gz)
      # A plain .gz holds one file, not a tree.
      gzip -dc -- "$archive" >"$folder/$(basename -- "$archive" .gz)"
      ;;
    *) return 1 ;;
  esac
}

main() {
  if (($# == 0)); then
    echo "usage: $(basename "$0") archive [archive ...]" >&2
    exit 2
  fi

  local archive folder
  for archive in "$@"; do
    [[ -f "$archive" ]] || die "no such file: $archive"
    folder="$(folder_name "$archive")"
    [[ ! -e "$folder" ]] || die "$folder is already there"

    mkdir -- "$folder"
    if ! unpack "$archive" "$folder"; then
      # Remove the folder again if nothing was put into it.
      rmdir -- "$folder" 2>/dev/null || true
      die "cannot unpack $archive"
    fi
    echo "$archive -> $folder/ ($(find "$folder" -type f | wc -l) files)"
  done
}

main "$@"
