#!/usr/bin/env bash
#
# compare-trees.sh - say how two folders differ.
#
# Both folders are listed by relative path. A path that is only in the
# first one is marked with "-", a path that is only in the second one is
# marked with "+", and a file that is in both but has other content is
# marked with "!". The last line holds the counts.
#
# Usage:
#   compare-trees.sh old_folder new_folder
#
# Exit status: 0 if the trees are equal, 1 if they differ, 2 on error.

set -euo pipefail

relative_paths() {
  (cd -- "$1" && find . -type f | sed 's|^\./||' | sort)
}

main() {
  if (($# != 2)); then
    echo "usage: $(basename "$0") old_folder new_folder" >&2
    exit 2
  fi

  local old="$1" new="$2" folder
  for folder in "$old" "$new"; do
    if [[ ! -d "$folder" ]]; then
      echo "error: not a folder: $folder" >&2
      exit 2
    fi
  done

  # Use the same order in sort and comm, whatever the language settings.
  export LC_ALL=C

  local old_list new_list
  old_list="$(relative_paths "$old")"
  new_list="$(relative_paths "$new")"

  local path removed=0 added=0 changed=0 same=0

  while IFS= read -r path; do
    [[ -n "$path" ]] || continue
    echo "- $path"
    removed=$((removed + 1))
  done < <(comm -23 <(echo "$old_list") <(echo "$new_list"))

  while IFS= read -r path; do
    [[ -n "$path" ]] || continue
    echo "+ $path"
    added=$((added + 1))
  done < <(comm -13 <(echo "$old_list") <(echo "$new_list"))

  # cmp -s stops at the first byte that differs, so it is quick.
  while IFS= read -r path; do
    [[ -n "$path" ]] || continue
    if cmp -s -- "$old/$path" "$new/$path"; then
      same=$((same + 1))
    else
      echo "! $path"
      changed=$((changed + 1))
    fi
  done < <(comm -12 <(echo "$old_list") <(echo "$new_list"))

  echo "$removed removed, $added added, $changed changed, $same the same"
  ((removed + added + changed == 0))
}

main "$@"
