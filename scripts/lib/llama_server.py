"""llama.cpp's OpenAI-compatible server on loopback, from the package xllamacpp. Ends with its parent's signal.

    python scripts/lib/llama_server.py MODEL.gguf PORT NAME [f32]

With f32 it keeps keys and values as f32 too, and its attention is the plain one.
"""

import signal
import sys

import xllamacpp

if __name__ == "__main__":
    path, port, name, *exact = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.port = int(port)
    params.n_ctx = 2048
    params.n_parallel = 4
    # Its threads wait for each other in a loop: on a machine that does other things two are far slower
    # than one.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    if exact == ["f32"]:
        params.n_ctx = 16384
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
