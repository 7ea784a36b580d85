"""llama.cpp's OpenAI-compatible server on loopback, from the package xllamacpp. Ends with its parent's signal.

    python scripts/lib/llama_server.py MODEL.gguf PORT NAME
"""

import signal
import sys

import xllamacpp

if __name__ == "__main__":
    path, port, name = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.port = int(port)
    params.n_ctx = 2048
    params.n_parallel = 4
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
