#!/bin/sh
# What the tests need of a Debian or Ubuntu system beyond Python: venv, and a virtual screen with
# the libraries of Qt and OpenGL for the window tests. Installs only what is missing. On other
# systems it does nothing: tests that find no screen say so and are skipped.
set -eu

packages="python3-venv xvfb xauth libegl1 libgl1 libopengl0 libgl1-mesa-dri libglx-mesa0
  libglib2.0-0 libdbus-1-3 libfontconfig1 fonts-dejavu-core libxkbcommon-x11-0 libxcb-cursor0
  libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
  libxcb-xfixes0 libxcb-xinerama0 libxcb-xkb1"

command -v apt-get >/dev/null || exit 0
# A Python that was not installed by the system's packages brings its own venv.
! python3 -c "import ensurepip" 2>/dev/null || packages=${packages#python3-venv}
missing=""
for package in $packages; do
  # Newer releases install libglib2.0-0t64 for libglib2.0-0.
  dpkg-query -W -f '${Status}\n' "$package" "${package}t64" 2>/dev/null |
    grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
[ "$(id -u)" -eq 0 ] || as_root=sudo
# shellcheck disable=SC2086 # a list of words
$as_root apt-get update
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
