#!/usr/bin/env bash
#
# cert_expiry.sh - show how many days are left on TLS certificates.
#
# Each argument is either a certificate file or a host name, with an
# optional port. For a host the script connects with openssl and reads the
# certificate that the server sends. The exit status is 1 if a certificate
# ends in less than WARN_DAYS days, or if one could not be read.
#
# Usage: WARN_DAYS=21 cert_expiry.sh TARGET...
# Example: cert_expiry.sh example.com example.org:8443 /etc/ssl/site.pem

set -euo pipefail

warn_days="${WARN_DAYS:-21}"

# Print the certificate of a file or of a host in PEM form.
read_cert() {
  local target="$1" host port
  if [[ -f "$target" ]]; then
    cat "$target"
    return
  fi
  host="${target%%:*}"
  port=443
  if [[ "$target" == *:* ]]; then
    port="${target##*:}"
  fi
  # The -servername option tells the server which site we want. Without it
  # a server with many sites may send the wrong certificate.
  timeout 10 openssl s_client -connect "$host:$port" -servername "$host" \
    </dev/null 2>/dev/null
}

# Print the number of whole days until the certificate ends.
days_left() {
  local end_text end now
  end_text="$(read_cert "$1" | openssl x509 -noout -enddate 2>/dev/null)" || return 1
  # The text looks like notAfter=Mar  1 12:00:00 2031 GMT.
  end="$(date -d "${end_text#notAfter=}" +%s)" || return 1
  now="$(date +%s)"
  echo "$(( (end - now) / 86400 ))"
}

main() {
  if (( $# == 0 )); then
    echo "Usage: cert_expiry.sh TARGET..." >&2
    return 2
  fi

  local target days status=0
  for target in "$@"; do
    if ! days="$(days_left "$target")"; then
      echo "ERROR  $target: cannot read the certificate"
      status=1
    elif (( days < 0 )); then
      echo "ENDED  $target: $((-days)) days ago"
      status=1
    elif (( days < warn_days )); then
      echo "SOON   $target: $days days left"
      status=1
    else
      echo "ok     $target: $days days left"
    fi
  done
  return "$status"
}

main "$@"
