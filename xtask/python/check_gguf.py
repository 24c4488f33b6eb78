"""Opens a GGUF file with llama.cpp, and compares its logits and tokens with those of smelt on the model it came from.

    SMELT=target/release/smelt check_gguf.py MODEL_FOLDER FILE.gguf

Needs `llama-cpp-python` (its low-level bindings). Exit code 0 if everything is within the tolerance; llama.cpp
computes GELU by its tanh form, whatever the model says.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import llama_cpp as llama
from safetensors.numpy import load_file, save_file

TOLERANCE = 0.02
BATCH, LENGTH = 2, 24
TEXTS = ["the end of", "for file in *.sh; do echo \"$file\"; done", "  two spaces\n\nFünf 北京 12345", "don't we'LL"]


@llama.llama_log_callback
def log(level, text, _):
    if level >= 4:
        sys.stderr.write(text.decode(errors="replace"))


def logits_of(model, ids):
    rows = []
    for row in ids:
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 256, 256, 256
        params.type_k = params.type_v = 0  # f32
        params.flash_attn_type = 0  # it would round to f16
        context = llama.llama_init_from_model(model, params)
        batch = llama.llama_batch_init(len(row), 0, 1)
        batch.n_tokens = len(row)
        for at, token in enumerate(row):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = int(token), at, 1
            batch.seq_id[at][0], batch.logits[at] = 0, 1
        assert llama.llama_decode(context, batch) == 0
        size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        found = [np.ctypeslib.as_array(llama.llama_get_logits_ith(context, at), shape=(size,)).copy() for at in range(len(row))]
        rows.append(np.stack(found))
        llama.llama_free(context)
    return np.stack(rows)


def tokens_of(model, text):
    vocab = llama.llama_model_get_vocab(model)
    raw = text.encode()
    tokens = (llama.llama_token * (len(raw) + 8))()
    count = llama.llama_tokenize(vocab, raw, len(raw), tokens, len(tokens), True, True)
    return list(tokens[:count])


def smelt(*arguments):
    return subprocess.run([os.environ["SMELT"], *arguments, "--quiet"], check=True, capture_output=True, text=True).stdout


def main(folder: str, path: str) -> int:
    llama.llama_log_set(log, ctypes.c_void_p(0))
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), params)
    if not model:
        print("llama.cpp does not open the file")
        return 1
    vocab = llama.llama_model_get_vocab(model)
    size = llama.llama_vocab_n_tokens(vocab)
    ids = np.random.default_rng(0).integers(0, size, (BATCH, LENGTH))
    with tempfile.TemporaryDirectory() as scratch:
        source, target = f"{scratch}/input.safetensors", f"{scratch}/logits.safetensors"
        save_file({"input_ids": ids}, source)
        smelt("logits", "--model", folder, "--input", source, "--output", target)
        expected = load_file(target)["logits"]
    difference = float(np.abs(logits_of(model, ids) - expected).max())
    print(f"llama.cpp: largest difference of logits {difference:.2e}, at most {TOLERANCE:.0e}")
    failed = not difference <= TOLERANCE
    if llama.llama_vocab_type(vocab) != 0:
        for text in TEXTS:
            arguments = ["tokenizer", "encode", "--tokenizer", folder, "--special-tokens", "--json", text]
            expected, found = json.loads(smelt(*arguments))["ids"], tokens_of(model, text)
            if found != expected:
                print(f"{text!r} becomes {found}, with smelt {expected}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
