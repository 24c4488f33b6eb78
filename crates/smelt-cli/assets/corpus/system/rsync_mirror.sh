#!/usr/bin/env bash
#
# rsync_mirror.sh - copy a directory to another machine with rsync over ssh.
#
# By default the script makes a dry run: it shows what would be copied and
# deleted, but changes nothing. Give --go to do the real work. Files that
# are gone in the source are also deleted in the target, so that the target
# is a true mirror. For safety the script refuses an empty source.
#
# Usage: rsync_mirror.sh [--go] SOURCE_DIR USER@HOST:TARGET_DIR
# Example: rsync_mirror.sh --go /srv/www backup@example.com:/backup/www

set -euo pipefail

die() {
  echo "rsync_mirror: $*" >&2
  exit 1
}

# True if the directory holds at least one entry.
has_files() {
  [[ -n "$(find "$1" -mindepth 1 -print -quit)" ]]
}

main() {
  local go=no
  if [[ "${1:-}" == "--go" ]]; then
    go=yes
    shift
  fi
  (( $# == 2 )) || die "usage: rsync_mirror.sh [--go] SOURCE_DIR USER@HOST:TARGET_DIR"

  local source="${1%/}" target="${2%/}"
  command -v rsync >/dev/null || die "rsync is not installed"
  [[ -d "$source" ]] || die "no such directory: $source"
  # A source that is empty because a disk is not mounted would delete the
  # whole mirror. That must never happen by accident.
  has_files "$source" || die "$source is empty, refusing to mirror it"

  # -a keeps times, modes and links. -z compresses the data on the way.
  local options=(-az --delete --itemize-changes)
  options+=(-e "ssh -o BatchMode=yes -o ConnectTimeout=10")
  if [[ "$go" == "no" ]]; then
    options+=(--dry-run)
    echo "dry run, nothing will be changed"
  fi

  # The slash after the source means: copy what is inside the directory,
  # not the directory itself.
  if rsync "${options[@]}" "$source/" "$target/"; then
    echo "done"
  else
    local status=$?
    die "rsync failed with status $status"
  fi
}

main "$@"
