#!/usr/bin/env bash
#
# safe-delete.sh - move files to a trash folder instead of deleting them.
#
# Each file gets the date and time in front of its name, and a small file
# beside it remembers where it came from. So it can be put back later.
#
# Usage:
#   safe-delete.sh put file [file ...]    move files to the trash
#   safe-delete.sh list                   show what is in the trash
#   safe-delete.sh restore name           put one file back
#   safe-delete.sh empty days             drop what is older than this
#
# The trash is the folder ~/.trash, or the one named in TRASH_DIR.

set -euo pipefail

trash="${TRASH_DIR:-$HOME/.trash}"

put_files() {
  local path full entry
  for path in "$@"; do
    if [[ ! -e "$path" ]]; then
      echo "error: no such file: $path" >&2
      return 1
    fi
    full="$(realpath -s -- "$path")"
    entry="$(date +%Y%m%d-%H%M%S)-$RANDOM-$(basename -- "$full")"
    printf '%s\n' "$full" >"$trash/$entry.origin"
    mv -- "$full" "$trash/$entry"
    echo "trashed $path as $entry"
  done
}

list_trash() {
  local origin
  for origin in "$trash"/*.origin; do
    [[ -e "$origin" ]] || continue
    printf '%s  (from %s)\n' "$(basename -- "$origin" .origin)" \
      "$(cat -- "$origin")"
  done
}

restore_file() {
  local entry="$1" target
  if [[ ! -f "$trash/$entry.origin" ]]; then
    echo "error: not in the trash: $entry" >&2
    return 1
  fi
  target="$(cat -- "$trash/$entry.origin")"
  if [[ -e "$target" ]]; then
    echo "error: $target is there already" >&2
    return 1
  fi
  mkdir -p -- "$(dirname -- "$target")"
  mv -- "$trash/$entry" "$target"
  rm -f -- "$trash/$entry.origin"
  echo "restored $target"
}

# The time of the .origin file is the time at which the file was trashed.
empty_trash() {
  local origin
  while IFS= read -r -d '' origin; do
    rm -rf -- "${origin%.origin}" "$origin"
    echo "dropped $(basename -- "$origin" .origin)"
  done < <(find "$trash" -maxdepth 1 -name '*.origin' -mtime "+$1" -print0)
}

main() {
  local action="${1:-list}"
  shift || true
  mkdir -p -- "$trash"

  case "$action" in
    put) put_files "$@" ;;
    list) list_trash ;;
    restore) restore_file "${1:?name needed}" ;;
    empty) empty_trash "${1:?number of days needed}" ;;
    *)
      echo "error: unknown action: $action" >&2
      exit 2
      ;;
  esac
}

main "$@"
