"""A real llama.cpp HTTP server out of the xllamacpp wheel: `python -m tests.llama.serve MODEL.gguf PORT`."""

import os
import signal
import sys

import xllamacpp


def main(model: str, port: int) -> None:
    """Serve until a signal comes."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = ["tiny"]
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 16384
    params.n_parallel = 2
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.embedding = True  # chat works as well
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print("listening", server.listening_address, flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    os._exit(0)  # the server's own threads have nothing to save


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
