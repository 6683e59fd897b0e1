#!/bin/sh
# Makes the virtual environment that `make demo` and `make test` run in, with everything they need.
#
#   scripts/setup.sh VENV [EXTRA]       EXTRA: an extra of pyproject.toml, such as dev
#
# A second run finds everything in place and does nothing. Every complaint names the command that mends it.
set -eu

venv=$1
extra=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
gl_packages="libegl1 libegl-mesa0 libgl1-mesa-dri"
torch_cpu_index=https://download.pytorch.org/whl/cpu
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# -- system packages -------------------------------------------------------------------------------------------------

# apt_install PACKAGE...: true when they were installed, false where apt, or the right to use it, is lacking.
apt_install() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root="env"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo -n env"
    else
        return 1
    fi
    say "installing $* with apt"
    # Stale package lists are the usual reason for a failure, and a fresh image has none.
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
        { $as_root apt-get update >&2 &&
            $as_root DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; }
}

has_library() { ldconfig -p 2>/dev/null | grep -q "$1"; }

has_files() {
    for file in "$@"; do
        [ -e "$file" ] && return 0
    done
    return 1
}

# Rendering needs EGL with a driver behind it; OSMesa serves where there is no EGL at all, or where it is asked for.
has_gl() {
    if [ "${MUJOCO_GL:-}" = osmesa ] || ! has_library 'libEGL\.so\.1'; then
        has_library 'libOSMesa\.so'
    else
        has_library 'libEGL_nvidia\.so' || {
            has_library 'libEGL_mesa\.so' &&
                has_files /usr/lib*/dri/*swrast_dri.so /usr/lib/*/dri/*swrast_dri.so /usr/lib*/libgallium*.so /usr/lib/*/libgallium*.so
        }
    fi
}

check_gl() {
    has_gl && return
    packages=$gl_packages
    [ "${MUJOCO_GL:-}" = osmesa ] && packages=libosmesa6
    apt_install $packages && has_gl && return
    fail "no OpenGL library to render with; run: sudo apt-get install -y $packages   (or your system's Mesa EGL)"
}

# -- Python ----------------------------------------------------------------------------------------------------------

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null
}

makes_environments() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

# Sets `python` to an interpreter that can make an environment.
find_python() {
    python=
    for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
        if command -v "$candidate" >/dev/null && is_supported "$candidate"; then
            python=${python:-$candidate}
            if makes_environments "$candidate"; then
                python=$candidate
                return
            fi
        fi
    done
    [ -n "$python" ] ||
        fail "needs Python 3.11 or 3.12; install one (sudo apt-get install -y python3 python3-venv) or name it: make PYTHON=/path/to/python3.11 ..."
    version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    apt_install "$version" && makes_environments "$python" && return
    fail "$python lacks the venv module; run: sudo apt-get install -y $version"
}

# -- packages --------------------------------------------------------------------------------------------------------

reachable() {
    "$venv/bin/python" - "$1" <<'PYTHON' 2>/dev/null
import sys
import urllib.request

urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=5)
PYTHON
}

# Without a GPU the CPU build of torch saves gigabytes; PyPI's is taken where that index cannot be reached.
install_torch() {
    "$venv/bin/python" -c 'import torch' 2>/dev/null && return
    torch=$(sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' "$root/pyproject.toml")
    if ! command -v nvidia-smi >/dev/null && reachable "$torch_cpu_index/torch/"; then
        say "installing the CPU build of $torch"
        "$venv/bin/python" -m pip install --quiet "$torch" --index-url "$torch_cpu_index" && return
        say "that did not work; taking the build of the package index"
    fi
    "$venv/bin/python" -m pip install --quiet "$torch"
}

install_packages() {
    stamp="$venv/.genrl-${extra:-core}"
    wanted="$root $(cksum <"$root/pyproject.toml")"
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        find_python
        say "making $venv with $python"
        "$python" -m venv --clear "$venv"
    fi
    say "installing genrl${extra:+ with its $extra tools} into $venv; this takes some minutes the first time"
    install_torch || fail "torch could not be installed; see pip's message above"
    "$venv/bin/python" -m pip install --quiet --editable "$root${extra:+[$extra]}" ||
        fail "the packages could not be installed; see pip's message above, then run the same command again"
    printf '%s\n' "$wanted" >"$stamp"
}

check_gl
install_packages
