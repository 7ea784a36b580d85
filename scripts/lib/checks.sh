# What the machine must have. Sourced by scripts/setup.
# shellcheck shell=bash

MIN_RUST_MINOR=89
MIN_PYTHON_MINOR=9
# A first run downloads, stages and builds; a resumed one has most of it.
MIN_FREE_GB=4
MIN_FREE_GB_RESUMED=2

PYTHON=${PYTHON:-python3}

check_platform() {
    local system machine
    system=$(uname -s)
    machine=$(uname -m)
    if [[ $system != Linux || $machine != x86_64 ]]; then
        fail "this is $system on $machine, expected Linux on x86_64" \
            "libtorch is staged from wheels that exist for x86_64 Linux; use such a machine or container"
    fi
}

check_compiler() {
    local name
    for name in ${CXX:+"$CXX"} c++ g++ clang++; do
        # CXX may hold options too.
        if have "${name%% *}"; then
            return
        fi
    done
    fail "no C++ compiler was found (c++, g++ or clang++)" \
        "install one: \`sudo apt-get install g++\` (Debian, Ubuntu) or \`sudo dnf install gcc-c++\` (Fedora)"
}

check_cargo() {
    local hint="install Rust from https://rustup.rs, or bring it up to date with \`rustup update\`"
    local words major minor
    have cargo || fail "cargo was not found" "$hint"
    # "cargo 1.95.0 (f2d3ce0bd 2026-03-21)"
    words=$(cd "$ROOT" && cargo --version) || fail "\`cargo --version\` failed" "$hint"
    IFS=. read -r major minor _ <<<"${words#cargo }"
    if [[ ! $major.$minor =~ ^[0-9]+\.[0-9]+$ ]]; then
        fail "\`cargo --version\` says \`$words\`, expected a version" "$hint"
    fi
    if ((major < 1 || (major == 1 && minor < MIN_RUST_MINOR))); then
        fail "cargo is version $major.$minor, expected 1.$MIN_RUST_MINOR or later" "$hint"
    fi
}

check_python() {
    local version
    have "$PYTHON" || fail "\`$PYTHON\` was not found" \
        "install it: \`sudo apt-get install python3 python3-pip\` (Debian, Ubuntu) or \`sudo dnf install python3-pip\` (Fedora)"
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
        fail "\`$PYTHON\` does not run" "name another one: \`PYTHON=python3.12 scripts/setup\`"
    if ((${version%%.*} < 3 || (${version%%.*} == 3 && ${version##*.} < MIN_PYTHON_MINOR))); then
        fail "\`$PYTHON\` is version $version, expected 3.$MIN_PYTHON_MINOR or later" \
            "install a later one and name it: \`PYTHON=python3.12 scripts/setup\`"
    fi
    "$PYTHON" -m pip --version >/dev/null 2>&1 || fail "\`$PYTHON\` has no pip" \
        "install it: \`sudo apt-get install python3-pip\` (Debian, Ubuntu) or \`sudo dnf install python3-pip\` (Fedora)"
    # shellcheck disable=SC2034 # read by wheels.sh
    PYTHON_VERSION=$version
}

check_disk() {
    local min_gb=$MIN_FREE_GB free_kb=
    if [[ -d $WHEELS_DIR ]]; then
        min_gb=$MIN_FREE_GB_RESUMED
    fi
    { read -r _ && read -r free_kb; } < <(df -k --output=avail "$ROOT") || true
    if [[ $free_kb =~ ^[0-9]+$ ]] && ((free_kb < min_gb * 1000 * 1000)); then
        fail "$((free_kb / 1000)) MB are free in \`$ROOT\`, expected $((min_gb * 1000)) MB or more" \
            "libtorch, the models and cargo's \`target\` lie there; free some space or clone elsewhere"
    fi
}
