#!/usr/bin/env bash
#
# find-broken-links.sh - find symbolic links that point to nothing.
#
# A symbolic link only holds a path. When the file at that path is moved
# or deleted, the link stays behind and is broken. The script prints each
# broken link together with its target. With -d it deletes the links.
# The files that links point to are never touched.
#
# Usage:
#   find-broken-links.sh [-d] [folder]

set -euo pipefail

main() {
  local delete=false
  if [[ "${1:-}" == "-d" ]]; then
    delete=true
    shift
  fi

  local folder="${1:-.}"
  if [[ ! -d "$folder" ]]; then
    echo "usage: $(basename "$0") [-d] [folder]" >&2
    exit 2
  fi

  local link found=0
  # With -xtype l, find follows each link first. If the result is still a
  # link, then the target does not exist.
  while IFS= read -r -d '' link; do
    found=$((found + 1))
    echo "$link -> $(readlink -- "$link")"
    if [[ "$delete" == true ]]; then
      rm -- "$link"
    fi
  done < <(find "$folder" -xtype l -print0)

  if ((found == 0)); then
    echo "no broken links in $folder"
  elif [[ "$delete" == true ]]; then
    echo "deleted $found broken links"
  else
    echo "found $found broken links"
  fi
}

main "$@"
