# Puts libtorch into `.libtorch`: staged from wheels, or a link to an installed torch.
# Sourced by scripts/setup.
# shellcheck shell=bash

TORCH_SERIES=2.11
TORCH_VERSION=2.11.0
TORCH_BUILD=2.11.0+cu130
LIBTORCH_DIR=$ROOT/.libtorch
LIBTORCH_TABLE=$ROOT/scripts/lib/libtorch.tsv
# In a staged libtorch: the table it was made from.
LIBTORCH_STAMP=$LIBTORCH_DIR/wheels.tsv

# torch_version FOLDER: the version of a libtorch or of a Python torch; nothing if there is none.
torch_version() {
    local line
    if [[ -f $1/build-version ]]; then
        read -r line <"$1/build-version" || true
        printf '%s\n' "$line"
    elif [[ -f $1/version.py ]]; then
        while read -r line; do
            if [[ $line =~ ^__version__.*=[[:space:]]*[\'\"]([^\'\"]+) ]]; then
                printf '%s\n' "${BASH_REMATCH[1]}"
                return
            fi
        done <"$1/version.py"
    fi
}

# lacks FOLDER: the first file that a build needs and that is not there; nothing if all are.
lacks() {
    local file
    for file in include/torch/csrc/api/include/torch/torch.h \
        lib/libtorch_cpu.so lib/libc10.so lib/libtorch.so; do
        if [[ ! -f $1/$file ]]; then
            printf '%s\n' "$file"
            return
        fi
    done
}

usable_torch() {
    [[ $(torch_version "$1") == "$TORCH_SERIES".* && -z $(lacks "$1") ]]
}

libtorch_complete() {
    usable_torch "$LIBTORCH_DIR" &&
        [[ ! -f $LIBTORCH_STAMP || $(<"$LIBTORCH_STAMP") == "$(<"$LIBTORCH_TABLE")" ]]
}

# check_torch VARIABLE FOLDER: ends the script unless the folder that the user names will do.
check_torch() {
    local version missing unset="or unset $1, and libtorch $TORCH_VERSION is downloaded"
    [[ -d $2 ]] || fail "$1 is \`$2\`, which is not a folder" \
        "name the folder of the torch package: $1=/path/to/site-packages/torch" "$unset"
    version=$(torch_version "$2")
    [[ -n $version ]] || fail "$1 is \`$2\`, which holds neither version.py nor build-version" \
        "name the folder of the torch package itself: $1=/path/to/site-packages/torch" "$unset"
    [[ $version == "$TORCH_SERIES".* ]] ||
        fail "$1 is \`$2\`, which is torch $version, expected $TORCH_SERIES" \
            "install it: \`pip install torch==$TORCH_VERSION\`" "$unset"
    missing=$(lacks "$2")
    [[ -z $missing ]] || fail "$1 is \`$2\`, which has no \`$missing\`" \
        "install torch from its wheel: \`pip install torch==$TORCH_VERSION\`" "$unset"
}

# python_torch: the folder of the torch of the active Python, found without importing it.
python_torch() {
    "$PYTHON" -c '
import importlib.util, os
spec = importlib.util.find_spec("torch")
if spec and spec.origin:
    print(os.path.dirname(os.path.realpath(spec.origin)))
' 2>/dev/null || true
}

# clear_libtorch: takes the old `.libtorch` away, if it is ours to take.
clear_libtorch() {
    if [[ -L $LIBTORCH_DIR ]]; then
        say "the link .libtorch to $(readlink "$LIBTORCH_DIR") is replaced"
        rm "$LIBTORCH_DIR"
    elif [[ -f $LIBTORCH_STAMP ]]; then
        say "the libtorch staged before is replaced"
        rm -rf "$LIBTORCH_DIR"
    elif [[ -e $LIBTORCH_DIR ]]; then
        fail "\`$LIBTORCH_DIR\` was not made by scripts/setup and is not libtorch $TORCH_SERIES as needed" \
            "move it away and run this again"
    fi
}

# forget_builds: what was built with another libtorch is built again. Cargo compares the name of
# the folder, not what lies in it.
forget_builds() {
    if [[ -d ${CARGO_TARGET_DIR:-$ROOT/target} ]]; then
        (cd "$ROOT" && cargo clean -q -p torch-sys && cargo clean -q --release -p torch-sys) \
            2>/dev/null || true
    fi
}

# link_torch FOLDER
link_torch() {
    local folder
    folder=$(cd "$1" && pwd -P)
    if [[ -d $LIBTORCH_DIR && $(cd "$LIBTORCH_DIR" && pwd -P) == "$folder" ]]; then
        say "libtorch $(torch_version "$folder") is in place: .libtorch -> $folder"
        return
    fi
    clear_libtorch
    ln -s "$folder" "$LIBTORCH_DIR"
    forget_builds
    say "libtorch $(torch_version "$folder"): .libtorch -> $folder (nothing to download)"
}

stage_libtorch() {
    local partial=$LIBTORCH_DIR.partial
    say "libtorch $TORCH_VERSION: 544 MB to download from PyPI, 498 MB on disk (BSD-3-Clause; libcudart, libcupti: NVIDIA)"
    fetch_wheels "$LIBTORCH_TABLE"
    say "unpacking libtorch"
    rm -rf "$partial"
    "$PYTHON" "$ROOT/scripts/lib/unpack.py" libtorch "$partial" "$TORCH_BUILD" "${WHEELS[@]}"
    cp "$LIBTORCH_TABLE" "$partial/wheels.tsv"
    clear_libtorch
    mv -T "$partial" "$LIBTORCH_DIR"
    forget_builds
    rm -f "${WHEELS[@]}"
    say "libtorch $TORCH_VERSION is in place: .libtorch"
}

setup_libtorch() {
    if [[ -n ${W2S_TORCH:-} ]]; then
        check_torch W2S_TORCH "$W2S_TORCH"
        link_torch "$W2S_TORCH"
        return
    fi
    if [[ -n ${LIBTORCH:-} ]]; then
        check_torch LIBTORCH "$LIBTORCH"
        # Cargo takes the exported LIBTORCH before `.libtorch`.
        if libtorch_complete; then
            say "libtorch $(torch_version "$LIBTORCH") is in place: LIBTORCH=$LIBTORCH"
        else
            link_torch "$LIBTORCH"
        fi
        return
    fi
    if ! libtorch_complete; then
        begin_staging
    fi
    # Another setup may have done it while this one waited.
    if libtorch_complete; then
        say "libtorch $(torch_version "$LIBTORCH_DIR") is in place: .libtorch"
        return
    fi
    local found
    found=$(python_torch)
    if [[ -n $found ]] && usable_torch "$found"; then
        link_torch "$found"
        return
    fi
    if [[ -n $found ]]; then
        say "the torch $(torch_version "$found") of \`$PYTHON\` is not $TORCH_SERIES and is not used"
    fi
    stage_libtorch
}
