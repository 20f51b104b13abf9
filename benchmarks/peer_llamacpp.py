"""llama.cpp (PyPI xllamacpp) in process, one slot a client. Prints one JSON object: {clients: tokens/s}.

Usage: python peer_llamacpp.py MODEL.gguf THREADS RUN
"""

import json
import sys
import threading
import time

import xllamacpp
from prompts import CLIENTS, OUTPUT_TOKENS, PROMPT_TOKENS, prompts


def server(path: str, threads: int, clients: int) -> xllamacpp.Server:
    """Return a server with a slot for each client."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_parallel = clients
    parameters.n_ctx = clients * (PROMPT_TOKENS + OUTPUT_TOKENS + 64)
    parameters.n_batch = 2048
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(parameters)


def main() -> None:
    path, threads, run = sys.argv[1:]
    found = {}
    for clients in CLIENTS:
        running = server(path, int(threads), clients)

        def ask(prompt: list[int], count: int = OUTPUT_TOKENS, running: xllamacpp.Server = running) -> None:
            fields = {"n_predict": count, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
            running.handle_completions({"prompt": prompt, **fields})

        ask(prompts(1, 99)[0], 8)
        jobs = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts(clients, int(run))]
        began = time.perf_counter()
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        found[clients] = clients * OUTPUT_TOKENS / (time.perf_counter() - began)
        del running
    print(json.dumps(found))


if __name__ == "__main__":
    main()
