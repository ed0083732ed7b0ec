#!/bin/sh
# Installs an unpacked bundle. Uses no network, and nothing that a Debian-like system does not have.
#
#   ./install.sh [--signers FILE] [--destdir FOLDER] [--only coordinator|client]
#
# --signers FILE     who may sign (the format of ssh-keygen's allowed_signers, with the name "release"): verifies SHA256SUMS.sig
# --destdir FOLDER   puts everything below this folder instead of /
# --only WHICH       the coordinator and the operator's command alone, or the client alone
#
# Files go to /usr/lib/consilium, links to /usr/bin, units to /usr/lib/systemd/system, manuals to /usr/share/doc/consilium,
# samples to /etc/consilium (what is there already stays). Nothing is started.
#
# Exit codes: 0 installed, 1 refused (it says why), 2 wrong usage.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
signers='' destdir='' only=''
usage() { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
refuse() { echo "install.sh: $1" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case "$1" in
    --signers) [ $# -ge 2 ] || usage; signers=$2; shift 2 ;;
    --destdir) [ $# -ge 2 ] || usage; destdir=$2; shift 2 ;;
    --only) [ $# -ge 2 ] || usage; only=$2; shift 2 ;;
    *) usage ;;
  esac
done
case "$only" in '' | coordinator | client) ;; *) usage ;; esac
case "$signers" in '' | /*) ;; *) signers=$PWD/$signers ;; esac
case "$destdir" in '' | /*) ;; *) destdir=$PWD/$destdir ;; esac
[ -z "$signers" ] || [ -r "$signers" ] || refuse "$signers cannot be read"

cd "$here"
if [ -n "$signers" ]; then
  ssh-keygen -Y verify -f "$signers" -I release -n consilium-bundle -s SHA256SUMS.sig <SHA256SUMS >/dev/null 2>&1 ||
    refuse "SHA256SUMS is not signed by anybody in $signers; compare the key's fingerprint with whoever gave you the bundle"
else
  echo "install.sh: the signature is not verified (no --signers); only damage is found, not forgery" >&2
fi
sha256sum --quiet --strict -c SHA256SUMS >/dev/null 2>&1 ||
  refuse "a file is not as SHA256SUMS says: $(sha256sum --quiet -c SHA256SUMS 2>/dev/null | head -1); fetch the bundle again"
# Every file is listed, so that nothing rides along.
find . -type f ! -name SHA256SUMS ! -name SHA256SUMS.sig | sort | while read -r file; do
  grep -qF "  $file" SHA256SUMS || refuse "$file is not listed in SHA256SUMS; unpack the bundle into an empty folder"
done || exit 1

wanted=$(cat share/glibc)
found=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$wanted" "${found:-0}" | sort -V | head -1)
[ "$oldest" = "$wanted" ] || refuse "glibc ${found:-none} is here, and these programs need $wanted or newer; use a newer system or build from source"

prefix=$destdir/usr/lib/consilium
install -d "$prefix/bin" "$destdir/usr/bin" "$destdir/usr/lib/systemd/system" "$destdir/usr/lib/sysusers.d" \
  "$destdir/usr/share/doc/consilium" "$destdir/etc/consilium"
programs=''
[ "$only" = client ] || programs='consilium consilium-coordinator'
[ "$only" = coordinator ] || programs="$programs consilium-client"
for program in $programs; do
  install -m 755 "bin/$program" "$prefix/bin/$program"
  ln -sf "../lib/consilium/bin/$program" "$destdir/usr/bin/$program"
done
if [ "$only" != coordinator ]; then
  install -d "$prefix/lib"
  install -m 644 lib/* "$prefix/lib/"
  install -m 644 share/systemd/consilium-client.service "$destdir/usr/lib/systemd/system/"
fi
[ "$only" = client ] || install -m 644 share/systemd/consilium-coordinator.service "$destdir/usr/lib/systemd/system/"
install -m 644 share/systemd/consilium.sysusers "$destdir/usr/lib/sysusers.d/consilium.conf"
for sample in share/examples/*; do
  [ -e "$destdir/etc/consilium/$(basename "$sample")" ] || install -m 644 "$sample" "$destdir/etc/consilium/"
done
cp -R share/doc/. "$destdir/usr/share/doc/consilium/"
cp -R licences sbom.cdx.json "$destdir/usr/share/doc/consilium/"
if [ -d model ]; then
  install -d "$destdir/usr/share/consilium/model"
  install -m 644 model/* "$destdir/usr/share/consilium/model/"
fi
if [ -z "$destdir" ] && command -v systemd-sysusers >/dev/null; then
  systemd-sysusers /usr/lib/sysusers.d/consilium.conf
fi
echo "installed:$(printf ' %s' $programs)"
