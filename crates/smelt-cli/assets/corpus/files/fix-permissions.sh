#!/usr/bin/env bash
#
# fix-permissions.sh - give a folder tree sane permissions.
#
# Folders get 755, plain files get 644, and files that start with "#!"
# get 755 because they are scripts. With --private the group and all
# others get nothing: 700 and 600. Files that are already right are left
# alone, and each change is printed.
#
# Usage:
#   fix-permissions.sh [--private] [--dry-run] folder

set -euo pipefail

dry_run=false
plain_mode=644
run_mode=755

usage() {
  echo "usage: $(basename "$0") [--private] [--dry-run] folder"
}

set_mode() {
  local wanted="$1" path="$2" current
  current="$(stat -c %a -- "$path")"
  if [[ "$current" == "$wanted" ]]; then
    return
  fi
  echo "$current -> $wanted  $path"
  if [[ "$dry_run" == false ]]; then
    chmod "$wanted" -- "$path"
  fi
}

# A script starts with the two bytes "#!". Read just these two.
is_script() {
  local start
  start="$(head -c 2 -- "$1" 2>/dev/null | tr -d '\0')"
  [[ "$start" == "#!" ]]
}

main() {
  while (($# > 0)); do
    case "$1" in
      --private)
        plain_mode=600
        run_mode=700
        ;;
      --dry-run) dry_run=true ;;
      -h | --help)
        usage
        exit 0
        ;;
      -*)
        echo "error: unknown option: $1" >&2
        exit 2
        ;;
      *) break ;;
    esac
    shift
  done

  if (($# != 1)) || [[ ! -d "$1" ]]; then
    usage >&2
    exit 2
  fi

  local path
  # Symbolic links are neither -type d nor -type f, so they are skipped.
  while IFS= read -r -d '' path; do
    set_mode "$run_mode" "$path"
  done < <(find "$1" -type d -print0)

  while IFS= read -r -d '' path; do
    if is_script "$path"; then
      set_mode "$run_mode" "$path"
    else
      set_mode "$plain_mode" "$path"
    fi
  done < <(find "$1" -type f -print0)
}

main "$@"
