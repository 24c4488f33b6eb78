#!/usr/bin/env bash
#
# git-large-files.sh - find the largest files in the whole history.
#
# A big file stays in the repository even after it was deleted, because
# git keeps the old commits. This script lists every file version that
# was ever committed and prints the largest ones with their sizes.
#
# Usage: git-large-files.sh [COUNT]
#   COUNT   how many lines to print (default: 10)

set -euo pipefail

# Print "SIZE PATH" for each blob that any branch or tag can reach.
list_blobs() {
  # rev-list prints an object name and a path. cat-file adds the type
  # and the size. %(rest) is the path that rev-list gave us.
  git rev-list --objects --all |
    git cat-file --batch-check='%(objecttype) %(objectsize) %(rest)' |
    awk '$1 == "blob" { sub(/^blob /, ""); print }'
}

# Turn a number of bytes into a short text such as 1.5M.
human_size() {
  awk -v n="$1" 'BEGIN {
    split("B K M G", unit, " ")
    i = 1
    while (n >= 1024 && i < 4) {
      n /= 1024
      i++
    }
    printf "%.1f%s\n", n, unit[i]
  }'
}

main() {
  local count=${1:-10}
  if ! git rev-parse --git-dir >/dev/null 2>&1; then
    echo "error: this is not a git repository" >&2
    exit 1
  fi

  local size path
  # Sort everything first, then cut. The awk reads to the end of its
  # input, so sort never gets a broken pipe.
  list_blobs |
    sort -k1,1nr |
    awk -v max="$count" 'NR <= max' |
    while read -r size path; do
      printf '%8s  %s\n' "$(human_size "$size")" "$path"
    done
}

main "$@"
