#!/usr/bin/env bash
# A small Debian of another architecture, to run programs in with qemu-user: libc, Python and NumPy, unpacked into
# a folder and not installed.
# Usage: scripts/debian_root.sh arm64|armhf FOLDER
# Then:  qemu-aarch64 -cpu cortex-a72 -L FOLDER PROGRAM, or FOLDER/python3 SCRIPT with a $QEMU of your own
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# = 2 ] || die "usage: scripts/debian_root.sh arm64|armhf FOLDER"
arch=$1
case $arch in
    arm64) emulator=qemu-aarch64 tuple=aarch64-linux-gnu ;;
    armhf) emulator=qemu-arm tuple=arm-linux-gnueabihf ;;
    *) die "architecture: '$arch', expected arm64 or armhf" ;;
esac
for tool in apt-get dpkg; do command -v "$tool" >/dev/null || die "$tool is missing: this needs a Debian"; done
mkdir -p "$2"
root=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# Package lists and files of the other architecture, apart from those of this system.
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/packages"
touch "$work/status"
apt() {
    apt-get -q -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$work/state" \
        -o Dir::Cache="$work/cache" -o Dir::State::status="$work/status" -o Acquire::Languages=none \
        -o APT::Sandbox::User=root "$@"
}
say "fetching Python and NumPy for $arch ..."
apt update >"$work/log" 2>&1 || say "not all package lists could be had; trying with those that could"
version=$(apt-cache -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$work/state" \
    -o Dir::Cache="$work/cache" -o Dir::State::status="$work/status" depends python3-minimal |
    sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal$/\1/p' | head -n 1)
[ -n "$version" ] || die "no Python for $arch in Debian's package lists: $(tail -n 3 "$work/log")"
(
    cd "$work/packages"
    apt download "$version-minimal" "lib$version-minimal" "lib$version-stdlib" python3-numpy libc6 libgcc-s1 \
        libstdc++6 libgfortran5 libblas3 liblapack3 libffi8 zlib1g libexpat1 >>"$work/log" 2>&1
) || die "packages for $arch could not be had: $(tail -n 3 "$work/log")"
for package in "$work/packages"/*.deb; do dpkg -x "$package" "$root"; done

# The interpreter as one command; TVMCONV_QEMU_CPU chooses the CPU that is emulated. -0 makes it sys.executable too,
# so that Python programs can start others.
cat >"$root/python3" <<END
#!/bin/sh
exec $emulator -0 "$root/python3" \${TVMCONV_QEMU_CPU:+-cpu "\$TVMCONV_QEMU_CPU"} -L "$root" \\
    -E PYTHONHOME="$root/usr" \\
    -E LD_LIBRARY_PATH="$root/usr/lib/$tuple/blas:$root/usr/lib/$tuple/lapack" "$root/usr/bin/$version" "\$@"
END
chmod +x "$root/python3"
say "made $root"
