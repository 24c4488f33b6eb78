#!/usr/bin/env bash
#
# image-build.sh - build a container image with useful tags.
#
# The image gets two tags: the short name of the current commit, and
# "latest". When the work tree has changes that are not committed, the
# first tag ends in "-dirty" and "latest" is left alone, so that nobody
# ships an image that can not be built again.
#
# Usage: image-build.sh NAME [DIR]
#   NAME   the name of the image, for example example.com/team/app
#   DIR    the directory with the Dockerfile (default: .)

set -euo pipefail

engine=${CONTAINER_ENGINE:-docker}

# Print the tag for the current state of the repository.
commit_tag() {
  local tag
  tag=$(git rev-parse --short HEAD)
  if [[ -n $(git status --porcelain) ]]; then
    tag=$tag-dirty
  fi
  echo "$tag"
}

main() {
  if (($# < 1)); then
    echo "usage: image-build.sh NAME [DIR]" >&2
    exit 2
  fi
  local name=$1
  local dir=${2:-.}

  if [[ ! -f $dir/Dockerfile ]]; then
    echo "error: there is no Dockerfile in $dir" >&2
    exit 1
  fi

  local tag created
  tag=$(commit_tag)
  created=$(date -u +%Y-%m-%dT%H:%M:%SZ)

  local tags=(--tag "$name:$tag")
  if [[ $tag != *-dirty ]]; then
    tags+=(--tag "$name:latest")
  fi

  # Labels let us find out later where an image came from.
  "$engine" build "${tags[@]}" \
    --label "org.opencontainers.image.revision=$tag" \
    --label "org.opencontainers.image.created=$created" \
    "$dir"

  echo "built $name:$tag"
}

main "$@"
