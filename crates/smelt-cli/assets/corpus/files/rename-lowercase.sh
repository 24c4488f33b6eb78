#!/usr/bin/env bash
#
# rename-lowercase.sh - give files tidy names.
#
# Each name is turned into lower case, and spaces become dashes. A file
# called "My Summer Photo.JPG" becomes "my-summer-photo.jpg". By default
# the script only prints what it would do. Add --apply to rename for real.
#
# Usage:
#   rename-lowercase.sh [--apply] file [file ...]

set -euo pipefail

apply=false
renamed=0
skipped=0

usage() {
  echo "usage: $(basename "$0") [--apply] file [file ...]"
}

# Work out the new name. Only the last part of the path is changed, so
# the folders above the file keep their names.
tidy_name() {
  local name="$1"
  name="${name,,}"
  name="${name// /-}"
  # Squeeze a run of dashes into a single dash.
  while [[ "$name" == *--* ]]; do
    name="${name//--/-}"
  done
  printf '%s' "$name"
}

rename_one() {
  local old_path="$1"
  local folder old_name new_name
  folder="$(dirname -- "$old_path")"
  old_name="$(basename -- "$old_path")"
  new_name="$(tidy_name "$old_name")"

  if [[ "$old_name" == "$new_name" ]]; then
    return
  fi

  # Never overwrite a file that is already there.
  if [[ -e "$folder/$new_name" ]]; then
    echo "skip: $folder/$new_name already exists" >&2
    skipped=$((skipped + 1))
    return
  fi

  if [[ "$apply" == true ]]; then
    mv -n -- "$old_path" "$folder/$new_name"
  fi
  echo "$old_name -> $new_name"
  renamed=$((renamed + 1))
}

main() {
  if [[ "${1:-}" == "--apply" ]]; then
    apply=true
    shift
  fi
  if (($# == 0)); then
    usage >&2
    exit 2
  fi

  local path
  for path in "$@"; do
    if [[ -e "$path" ]]; then
      rename_one "$path"
    else
      echo "skip: no such file: $path" >&2
      skipped=$((skipped + 1))
    fi
  done

  if [[ "$apply" == true ]]; then
    echo "$renamed renamed, $skipped skipped"
  else
    echo "$renamed to rename, $skipped skipped (dry run, add --apply)"
  fi
}

main "$@"
