#!/usr/bin/env bash
#
# http-post-json.sh - send key=value pairs to a web service as JSON.
#
# Each pair becomes one field of a JSON object. With = the value is
# text. With := the value is JSON, so it may be a number or a list.
# The body of the answer is printed on standard output.
#
# Usage: http-post-json.sh URL KEY=TEXT... KEY:=JSON...
#
# Example:
#   http-post-json.sh https://example.com/api/users name=Ada age:=36
#
# If API_TOKEN is set, it is sent in the Authorization header.

set -euo pipefail

# Build a JSON object from the pairs. Using jq instead of printf means
# that quotes and line breaks in a value can not break the result.
build_body() {
  local body='{}'
  local pair
  for pair in "$@"; do
    if [[ $pair =~ ^([A-Za-z_]+):=(.*)$ ]]; then
      body=$(jq -c --arg k "${BASH_REMATCH[1]}" \
        --argjson v "${BASH_REMATCH[2]}" '.[$k] = $v' <<<"$body")
    elif [[ $pair =~ ^([A-Za-z_]+)=(.*)$ ]]; then
      body=$(jq -c --arg k "${BASH_REMATCH[1]}" \
        --arg v "${BASH_REMATCH[2]}" '.[$k] = $v' <<<"$body")
    else
      echo "error: '$pair' is not KEY=TEXT or KEY:=JSON" >&2
      return 1
    fi
  done
  echo "$body"
}

main() {
  if (($# < 2)); then
    echo "usage: http-post-json.sh URL KEY=TEXT... KEY:=JSON..." >&2
    exit 2
  fi
  local url=$1
  shift

  local body
  body=$(build_body "$@")

  local headers=(-H 'Content-Type: application/json')
  if [[ -n ${API_TOKEN:-} ]]; then
    headers+=(-H "Authorization: Bearer $API_TOKEN")
  fi

  # The status code is added as a last line, and then split off again.
  local answer code
  answer=$(curl -sS "${headers[@]}" --data "$body" \
    --write-out '\n%{http_code}' "$url")
  code=${answer##*$'\n'}
  echo "${answer%$'\n'*}"

  if ((code >= 400)); then
    echo "error: the service answered with status $code" >&2
    exit 1
  fi
}

main "$@"
