#!/usr/bin/env bash
#
# find-large-files.sh - list the largest files below a folder.
#
# The script walks a folder with find, prints the size of each file in
# bytes, sorts the list by size and shows only the top of it. Sizes are
# turned into a short form such as 12.5M so that they are easy to read.
#
# Usage:
#   find-large-files.sh [-n count] [-m min_size] [folder]
#
# Options:
#   -n count     how many files to show (default 10)
#   -m min_size  skip files smaller than this, as find writes it: 100k, 5M
#   -h           show this help
#
# Example:
#   find-large-files.sh -n 5 -m 1M ~/Downloads

set -euo pipefail

usage() {
  echo "usage: $(basename "$0") [-n count] [-m min_size] [folder]"
}

# Turn a number of bytes into a short form with one digit after the point.
human_size() {
  awk -v bytes="$1" 'BEGIN {
    split("B K M G T", unit, " ")
    i = 1
    while (bytes >= 1024 && i < 5) {
      bytes = bytes / 1024
      i++
    }
    printf "%.1f%s", bytes, unit[i]
  }'
}

# Print "size<TAB>path" for every regular file, largest first.
list_files() {
  local folder="$1" min_size="$2"
  local -a tests=(-type f)

  if [[ -n "$min_size" ]]; then
    tests+=(-size "+$min_size")
  fi
  find "$folder" "${tests[@]}" -printf '%s\t%p\n' | sort -rn
}

main() {
  local count=10 min_size="" option

  while getopts ":n:m:h" option; do
    case "$option" in
      n) count="$OPTARG" ;;
      m) min_size="$OPTARG" ;;
      h) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  shift $((OPTIND - 1))

  local folder="${1:-.}"
  if [[ ! -d "$folder" ]]; then
    echo "error: not a folder: $folder" >&2
    exit 1
  fi

  local shown=0 size path
  while IFS=$'\t' read -r size path; do
    printf '%10s  %s\n' "$(human_size "$size")" "$path"
    shown=$((shown + 1))
    if ((shown == count)); then
      break
    fi
  done < <(list_files "$folder" "$min_size")

  if ((shown == 0)); then
    echo "no files found in $folder"
  fi
}

main "$@"
