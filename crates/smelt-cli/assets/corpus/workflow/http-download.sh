#!/usr/bin/env bash
#
# http-download.sh - download a file and check its checksum.
#
# The file is first written under a temporary name. It gets its real
# name only when the download is complete and the checksum is right, so
# a broken file can never be mistaken for a good one. A download that
# failed is tried again after a pause that doubles each time.
#
# Usage: http-download.sh URL SHA256 [FILE]
#   FILE   where to write it (default: the last part of the URL)

set -euo pipefail

attempts=4

die() {
  echo "error: $*" >&2
  exit 1
}

# Run a command until it works, with longer and longer pauses.
retry() {
  local delay=1
  local try
  for ((try = 1; try <= attempts; try++)); do
    if "$@"; then
      return 0
    fi
    if ((try < attempts)); then
      echo "attempt $try failed, next one in ${delay}s" >&2
      sleep "$delay"
      delay=$((delay * 2))
    fi
  done
  return 1
}

# --fail makes curl report an error for codes such as 404. Without it
# the error page would be saved as if it was the file.
fetch() {
  curl --fail --silent --show-error --location --output "$2" "$1"
}

sum_of() {
  sha256sum "$1" | cut -d ' ' -f 1
}

main() {
  (($# >= 2)) || die "usage: http-download.sh URL SHA256 [FILE]"
  local url=$1
  local want=$2
  local file=${3:-${url##*/}}

  if [[ -f $file && $(sum_of "$file") == "$want" ]]; then
    echo "$file is already here"
    return
  fi

  local part=$file.part
  # Expand the name now, because local variables are gone at exit.
  trap "rm -f $(printf '%q' "$part")" EXIT

  retry fetch "$url" "$part" || die "could not download $url"

  local got
  got=$(sum_of "$part")
  if [[ $got != "$want" ]]; then
    die "wrong checksum for $file: wanted $want but got $got"
  fi
  mv "$part" "$file"
  echo "saved $file"
}

main "$@"
