#!/usr/bin/env bash
#
# restore_check.sh - prove that a backup archive can be restored.
#
# A backup that was never restored is only a hope. This script unpacks an
# archive into a temporary directory, counts the files, and compares them
# with a live directory if one is given. Nothing in the live directory is
# changed. The temporary directory is removed at the end.
#
# Usage: restore_check.sh ARCHIVE.tar.gz [LIVE_DIR]

set -euo pipefail

work_dir=""

cleanup() {
  if [[ -n "$work_dir" ]]; then
    rm -rf "$work_dir"
  fi
}

# Check the stored checksum, if there is one beside the archive.
check_sum() {
  local archive="$1"
  if [[ ! -f "$archive.sha256" ]]; then
    echo "note: no checksum file, skipping that step"
    return 0
  fi
  (cd "$(dirname "$archive")" && sha256sum --quiet -c "$(basename "$archive").sha256")
  echo "checksum is correct"
}

# Compare the restored files with the live ones. diff -r returns 1 when
# something differs, which is normal if files changed after the backup.
compare_with_live() {
  local restored="$1" live="$2"
  if diff -rq "$restored" "$live"; then
    echo "restored files are equal to $live"
  else
    echo "some files differ from $live, see the list above"
  fi
}

main() {
  if (( $# < 1 || $# > 2 )); then
    echo "Usage: restore_check.sh ARCHIVE.tar.gz [LIVE_DIR]" >&2
    return 2
  fi
  local archive="$1" live="${2:-}"
  if [[ ! -f "$archive" ]]; then
    echo "error: no such archive: $archive" >&2
    return 2
  fi

  trap cleanup EXIT
  work_dir="$(mktemp -d)"

  check_sum "$archive"
  tar -xzf "$archive" -C "$work_dir"

  local count
  count="$(find "$work_dir" -type f | wc -l)"
  echo "restored $count files"
  if (( count == 0 )); then
    echo "error: the archive holds no files" >&2
    return 1
  fi

  if [[ -n "$live" ]]; then
    # The archive holds one top directory with the name of the source.
    compare_with_live "$work_dir/$(basename "$live")" "$live"
  fi
}

main "$@"
