#!/usr/bin/env bash
#
# large_files.sh - find the largest files and directories below a path.
#
# Use it when a disk is almost full and you want to know why. The search
# stays on one file system, so it does not walk into /proc or into network
# drives. Directories that you may not read are skipped quietly.
#
# Usage: large_files.sh [-n COUNT] [-m MIN_MB] [DIRECTORY]
#   -n COUNT     how many entries to show (default 10)
#   -m MIN_MB    ignore files smaller than this (default 1)
#
# Example: large_files.sh -n 5 -m 100 /var

set -euo pipefail

count=10
min_mb=1

# Print lines of "BYTES<tab>NAME" as "SIZE NAME" with a size in megabytes.
show_sizes() {
  sort -rn | awk -F '\t' -v n="$count" 'NR <= n { printf "%8.1f MB  %s\n", $1 / 1048576, $2 }'
}

# find returns 1 if a directory could not be read. That is no reason to
# stop, so the status is ignored.
large_files() {
  { find "$1" -xdev -type f -size "+${min_mb}M" -printf '%s\t%p\n' 2>/dev/null || true; } \
    | show_sizes
}

large_directories() {
  { du -xb -d 2 "$1" 2>/dev/null || true; } | show_sizes
}

main() {
  local option
  while getopts 'n:m:' option; do
    case "$option" in
      n) count="$OPTARG" ;;
      m) min_mb="$OPTARG" ;;
      *) echo "Usage: large_files.sh [-n COUNT] [-m MIN_MB] [DIRECTORY]" >&2; return 2 ;;
    esac
  done
  shift $((OPTIND - 1))

  local dir="${1:-.}"
  if [[ ! -d "$dir" ]]; then
    echo "error: no such directory: $dir" >&2
    return 2
  fi

  echo "Largest files in $dir:"
  large_files "$dir"
  echo
  echo "Largest directories in $dir:"
  large_directories "$dir"
}

main "$@"
