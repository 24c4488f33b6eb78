#!/usr/bin/env bash
#
# sort-by-date.sh - move files into folders named after year and month.
#
# A file that was last changed in March 2024 goes to 2024/03. The script
# only looks at files directly in the source folder, not deeper. If the
# target already has a file of that name, a number is added: a photo.jpg
# becomes photo-1.jpg, so nothing is ever overwritten.
#
# Usage:
#   sort-by-date.sh source_folder target_folder

set -euo pipefail

# Find a free name in a folder. The ending is kept in its place.
free_name() {
  local folder="$1" name="$2"
  local stem="${name%.*}" ending="" number=1

  if [[ "$name" == *.* && -n "$stem" ]]; then
    ending=".${name##*.}"
  else
    stem="$name"
  fi

  local candidate="$name"
  while [[ -e "$folder/$candidate" ]]; do
    candidate="$stem-$number$ending"
    number=$((number + 1))
  done
  printf '%s' "$candidate"
}

main() {
  if (($# != 2)); then
    echo "usage: $(basename "$0") source_folder target_folder" >&2
    exit 2
  fi

  local source="$1" target="$2"
  if [[ ! -d "$source" ]]; then
    echo "error: not a folder: $source" >&2
    exit 1
  fi

  local path name month folder new_name moved=0
  while IFS= read -r -d '' path; do
    name="$(basename -- "$path")"
    # date -r reads the time of the last change of the file.
    month="$(date -r "$path" +%Y/%m)"
    folder="$target/$month"

    mkdir -p -- "$folder"
    new_name="$(free_name "$folder" "$name")"
    mv -n -- "$path" "$folder/$new_name"
    echo "$name -> $month/$new_name"
    moved=$((moved + 1))
  done < <(find "$source" -maxdepth 1 -type f -print0 | sort -z)

  echo "moved $moved files"
}

main "$@"
