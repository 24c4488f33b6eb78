#!/usr/bin/env bash
#
# clean-old-files.sh - delete files that have not changed for some days.
#
# This is meant for folders that fill up by themselves, such as a folder
# of downloads or of temporary results. The script shows the list first
# and asks before it deletes anything. Empty subfolders that are left
# over are removed too.
#
# Usage:
#   clean-old-files.sh folder days [pattern]
#
# Examples:
#   clean-old-files.sh ~/Downloads 90
#   clean-old-files.sh build/tmp 7 '*.log'
#
# Set ASSUME_YES=1 to skip the question, for example in a cron job.

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

# Ask a question that is answered with y or n. Anything else means no.
confirm() {
  local answer=""
  if [[ "${ASSUME_YES:-0}" == 1 ]]; then
    return 0
  fi
  read -r -p "$1 [y/N] " answer || true
  [[ "$answer" == y || "$answer" == Y ]]
}

main() {
  if (($# < 2 || $# > 3)); then
    echo "usage: $(basename "$0") folder days [pattern]" >&2
    exit 2
  fi

  local folder="$1" days="$2" pattern="${3:-*}"

  [[ -d "$folder" ]] || die "no such folder: $folder"
  [[ "$days" =~ ^[0-9]+$ ]] || die "days must be a whole number: $days"

  # Some folders must never be cleaned by accident.
  case "$(cd -- "$folder" && pwd -P)" in
    / | /bin | /etc | /usr | /home | "$HOME")
      die "this folder is too important: $folder"
      ;;
  esac

  local -a old_files=()
  mapfile -d '' -t old_files < <(
    find "$folder" -type f -name "$pattern" -mtime "+$days" -print0
  )

  if ((${#old_files[@]} == 0)); then
    echo "nothing is older than $days days"
    return
  fi

  printf '%s\n' "${old_files[@]}"
  if ! confirm "delete these ${#old_files[@]} files?"; then
    echo "nothing was deleted"
    return
  fi

  rm -f -- "${old_files[@]}"
  find "$folder" -mindepth 1 -type d -empty -delete
  echo "deleted ${#old_files[@]} files"
}

main "$@"
