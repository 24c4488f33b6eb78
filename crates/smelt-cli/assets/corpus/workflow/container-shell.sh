#!/usr/bin/env bash
#
# container-shell.sh - run a command in a container, on this directory.
#
# The current directory is mounted in the container as /work, and the
# command runs there. Files that it writes belong to you and not to
# root. The container is removed when the command ends.
#
# Usage: container-shell.sh [-i IMAGE] [COMMAND...]
#   -i IMAGE   the image to use (default: debian:stable-slim)
#   COMMAND    what to run (default: bash)
#
# Example: container-shell.sh -i alpine:latest ls -l

set -euo pipefail

# Print the name of the first container tool that is installed.
find_engine() {
  local tool
  for tool in podman docker; do
    if command -v "$tool" >/dev/null; then
      echo "$tool"
      return
    fi
  done
  echo "error: neither podman nor docker is installed" >&2
  return 1
}

main() {
  local image=debian:stable-slim
  local opt
  while getopts ':i:h' opt; do
    case $opt in
      i) image=$OPTARG ;;
      *)
        echo "usage: container-shell.sh [-i IMAGE] [COMMAND...]" >&2
        exit 2
        ;;
    esac
  done
  shift $((OPTIND - 1))
  if (($# == 0)); then
    set -- bash
  fi

  local engine
  engine=$(find_engine)

  # Build the options in an array, so that spaces in names are safe.
  local options=(--rm --volume "$PWD:/work" --workdir /work)
  if [[ $engine == docker ]]; then
    options+=(--user "$(id -u):$(id -g)")
  else
    options+=(--userns keep-id)
  fi
  # Ask for a terminal only when we have one. In CI there is none.
  if [[ -t 0 && -t 1 ]]; then
    options+=(--interactive --tty)
  fi

  exec "$engine" run "${options[@]}" "$image" "$@"
}

main "$@"
