"""transformers, static batch equal to the clients. Prints one JSON object a line: {clients: tokens/s}.

Usage: python peer_transformers.py CHECKPOINT DTYPE THREADS RUN
"""

import json
import sys
import time

import torch
from prompts import CLIENTS, OUTPUT_TOKENS, prompts
from transformers import AutoModelForCausalLM


def main() -> None:
    path, dtype, threads, run = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    fixed = {"max_new_tokens": OUTPUT_TOKENS, "min_new_tokens": OUTPUT_TOKENS, "do_sample": False}
    model.generate(torch.tensor(prompts(1, 99)), **{**fixed, "max_new_tokens": 8, "min_new_tokens": 8})
    found = {}
    for clients in CLIENTS:
        ids = torch.tensor(prompts(clients, int(run)))
        began = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), **fixed)
        found[clients] = clients * OUTPUT_TOKENS / (time.perf_counter() - began)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
