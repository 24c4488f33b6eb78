#!/usr/bin/env bash
#
# http-check.sh - check that a list of web pages can be reached.
#
# The script asks for each address and prints the status code and the
# time it took. Codes from 200 to 399 are good, all others are bad. It
# exits with status 1 when at least one page is bad.
#
# Usage: http-check.sh URL...
#        http-check.sh < urls.txt
#
# Lines that are empty or start with # are ignored in the list.

set -euo pipefail

timeout=${HTTP_TIMEOUT:-10}

# Print "CODE SECONDS" for an address. The code is 000 when there was
# no answer at all, for example because the name is not known.
probe() {
  curl --silent --location --output /dev/null \
    --max-time "$timeout" \
    --write-out '%{http_code} %{time_total}' \
    "$1" || true
}

check_url() {
  local url=$1
  local code seconds
  read -r code seconds < <(probe "$url"; echo)
  if ((10#$code >= 200 && 10#$code < 400)); then
    printf 'good  %s  %6.2fs  %s\n' "$code" "$seconds" "$url"
  else
    printf 'bad   %s  %6.2fs  %s\n' "$code" "$seconds" "$url"
    return 1
  fi
}

# Print the addresses from the arguments, or else from standard input.
list_urls() {
  if (($# > 0)); then
    printf '%s\n' "$@"
  else
    grep -v -e '^#' -e '^[[:space:]]*$' || true
  fi
}

main() {
  if (($# == 0)) && [[ -t 0 ]]; then
    echo "usage: http-check.sh URL..." >&2
    exit 2
  fi

  local urls
  mapfile -t urls < <(list_urls "$@")

  local bad=0
  local url
  for url in ${urls[@]+"${urls[@]}"}; do
    check_url "$url" || bad=$((bad + 1))
  done

  echo "${#urls[@]} checked, $bad bad"
  ((bad == 0))
}

main "$@"
