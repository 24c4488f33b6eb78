#!/usr/bin/env bash
#
# find-duplicates.sh - find files that have the same content.
#
# Two files with different sizes cannot be equal, so the script first
# groups files by size. Only files that share a size are read, and their
# SHA-256 checksums are compared. This is much faster than reading all
# files. Each group of equal files is printed with a blank line after it.
# Nothing is deleted: you decide what to do with the list.
#
# Usage:
#   find-duplicates.sh folder [folder ...]

set -euo pipefail

work_dir=""

clean_up() {
  if [[ -n "$work_dir" ]]; then
    rm -rf "$work_dir"
  fi
}

# Print the paths of files whose size occurs more than once. Empty files
# are skipped, since they are all equal and rarely interesting.
same_size_files() {
  find "$@" -type f -size +0 -printf '%s\t%p\n' |
    awk -F '\t' '
      {
        size = $1
        path = substr($0, length(size) + 2)
        count[size]++
        paths[size] = paths[size] path "\n"
      }
      END {
        for (size in count) {
          if (count[size] > 1) {
            printf "%s", paths[size]
          }
        }
      }'
}

main() {
  if (($# == 0)); then
    echo "usage: $(basename "$0") folder [folder ...]" >&2
    exit 2
  fi

  local folder
  for folder in "$@"; do
    if [[ ! -d "$folder" ]]; then
      echo "error: not a folder: $folder" >&2
      exit 1
    fi
  done

  work_dir="$(mktemp -d)"
  trap clean_up EXIT

  same_size_files "$@" >"$work_dir/candidates"
  if [[ ! -s "$work_dir/candidates" ]]; then
    echo "no duplicates found"
    return
  fi

  # A checksum line is 64 hex digits, two spaces and then the path. The
  # option -w64 makes uniq compare the checksum only.
  tr '\n' '\0' <"$work_dir/candidates" |
    xargs -0 sha256sum |
    sort |
    uniq -w64 --all-repeated=separate |
    cut -c 67- >"$work_dir/groups"

  if [[ -s "$work_dir/groups" ]]; then
    cat "$work_dir/groups"
  else
    echo "no duplicates found"
  fi
}

main "$@"
