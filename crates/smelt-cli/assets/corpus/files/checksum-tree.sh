#!/usr/bin/env bash
#
# checksum-tree.sh - record and verify the checksums of a whole folder.
#
# With "make" the script writes a file called SHA256SUMS at the top of the
# folder. With "check" it reads that file again and reports each file that
# has changed, gone missing or appeared since then. This is a good way to
# find out whether a copy on another disk is still in order.
#
# Usage:
#   checksum-tree.sh make folder
#   checksum-tree.sh check folder
#
# The exit status is 0 if all is well and 1 if something differs.

set -euo pipefail

sums_name="SHA256SUMS"

# Print the relative path of each file, without the list of sums itself.
list_paths() {
  find . -type f ! -path "./$sums_name" ! -path "./$sums_name.new" | sort
}

make_sums() {
  list_paths | tr '\n' '\0' | xargs -0 -r sha256sum >"$sums_name.new"
  mv "$sums_name.new" "$sums_name"
  echo "recorded $(wc -l <"$sums_name") files"
}

check_sums() {
  local status=0

  if [[ ! -f "$sums_name" ]]; then
    echo "error: no $sums_name here, run make first" >&2
    return 1
  fi

  # --quiet prints only the files that fail.
  if [[ -s "$sums_name" ]] && ! sha256sum --quiet --check "$sums_name"; then
    status=1
  fi

  # comm -13 prints the lines that are only in the second list: the files
  # that are in the folder now but were not there when the sums were made.
  local added
  added="$(comm -13 <(cut -c 67- "$sums_name" | sort) <(list_paths))"
  if [[ -n "$added" ]]; then
    echo "new files since the sums were made:"
    echo "$added" | sed 's/^/  /'
    status=1
  fi

  if ((status == 0)); then
    echo "all files are unchanged"
  fi
  return "$status"
}

main() {
  if (($# != 2)); then
    echo "usage: $(basename "$0") make|check folder" >&2
    exit 2
  fi

  local action="$1"
  cd -- "$2"

  case "$action" in
    make) make_sums ;;
    check) check_sums ;;
    *)
      echo "error: unknown action: $action" >&2
      exit 2
      ;;
  esac
}

main "$@"
