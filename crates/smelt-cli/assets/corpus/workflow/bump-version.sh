#!/usr/bin/env bash
#
# bump-version.sh - raise the version number in a VERSION file.
#
# A version has three numbers: major, minor and patch, as in 1.4.2.
# Raising one number sets the numbers to its right back to zero.
#
# Usage: bump-version.sh major|minor|patch [FILE]
#   FILE   the file with the version in it (default: VERSION)
#
# Examples, starting from 1.4.2:
#   bump-version.sh patch    gives 1.4.3
#   bump-version.sh minor    gives 1.5.0
#   bump-version.sh major    gives 2.0.0

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

# Print the next version after $1, where $2 says which part to raise.
next_version() {
  local version=$1
  local part=$2
  local major minor patch
  IFS=. read -r major minor patch <<<"$version"
  case $part in
    major) echo "$((major + 1)).0.0" ;;
    minor) echo "$major.$((minor + 1)).0" ;;
    patch) echo "$major.$minor.$((patch + 1))" ;;
    *) die "unknown part '$part', use major, minor or patch" ;;
  esac
}

main() {
  if (($# < 1)); then
    echo "usage: bump-version.sh major|minor|patch [FILE]" >&2
    exit 2
  fi
  local part=$1
  local file=${2:-VERSION}

  [[ -f $file ]] || die "$file does not exist"
  local old
  old=$(<"$file")
  # No number may start with a zero, or bash would read it as octal.
  if [[ ! $old =~ ^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}$ ]]; then
    die "$file does not hold a version such as 1.2.3"
  fi

  local new
  new=$(next_version "$old" "$part")
  echo "$new" >"$file"
  echo "$old -> $new"
}

main "$@"
