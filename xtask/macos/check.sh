#!/usr/bin/env bash
# Type-checks a cargo workspace for aarch64-apple-darwin on Debian, without a Mac, an SDK or rustup.
#
#   check.sh WORKSPACE [cargo check arguments...]
#
# Debian's `rust-src` of the same version as rustc, from backports of the mirror this machine already
# uses, gives the source of the standard library; cargo's `-Z build-std` checks it for the target. C
# build steps get a stand-in compiler, because `cargo check` needs no objects. Nothing is linked or run.
#
# Exit code 3: the source of this rustc version cannot be had here.
set -euo pipefail

workspace=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
cache=${SMELT_MACOS_CACHE:-$workspace/target/check-macos}
version=$(rustc --version | cut -d' ' -f2)
unpacked=$cache/rust-src-$version

cannot() {
  echo "check-macos: $1" >&2
  exit 3
}

# Prints the folder of the standard library's source; fails where it is not unpacked.
library() {
  local folder
  for folder in "$unpacked/usr/src/rustc-$version/library" "$unpacked/usr/lib/rustlib/src/rust/library"; do
    if [ -d "$folder" ]; then (cd -P "$folder" && pwd); return; fi
  done
  return 1
}

fetch_rust_src() {
  command -v apt-get > /dev/null || cannot "no apt on this machine"
  local apt=$cache/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror package
  mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null || true)
  [ -n "$mirror" ] || cannot "no Debian mirror in the settings of apt"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  : > "$apt/status"
  echo "deb [signed-by=$keyring] $mirror trixie-backports main" > "$apt/sources.list"
  # A state of its own: the machine's lists and packages stay as they are.
  local options=(
    -q -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache::archives=$apt/archives" -o APT::Sandbox::User=root
  )
  apt-get "${options[@]}" update >&2 || cannot "the Debian mirror does not answer"
  package=$(apt-cache "${options[@]}" madison rust-src |
    awk -F'|' -v version="$version" '{gsub(/ /, "", $2)} index($2, version) == 1 {print $2; exit}')
  [ -n "$package" ] || cannot "no rust-src $version in trixie-backports"
  (cd "$cache" && apt-get "${options[@]}" download "rust-src=$package" >&2) || cannot "rust-src cannot be downloaded"
  dpkg-deb -x "$cache"/rust-src_*.deb "$unpacked"
  rm -f "$cache"/rust-src_*.deb
}

library > /dev/null || fetch_rust_src
source_root=$(library) || cannot "rust-src $version holds no library folder"

export __CARGO_TESTS_ONLY_SRC_ROOT=$source_root RUSTC_BOOTSTRAP=1
export CRATE_CC_NO_DEFAULTS=1 SDKROOT=$cache RANLIB_aarch64_apple_darwin=true
for tool in CC CXX AR; do export "${tool}_aarch64_apple_darwin=$here/stand-in-cc"; done
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
cd "$workspace"
exec cargo check -Z build-std=std,panic_abort --target aarch64-apple-darwin "$@"
