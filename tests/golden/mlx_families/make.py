"""Fixtures of other families quantized by mlx-lm, for names, experts and odd widths.

Run beside the fixtures that they are made from: python mlx_families/make.py
"""

import json
import shutil
from pathlib import Path

import mlx
import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
from safetensors.numpy import load_file, save_file

mx.set_default_device(mx.cpu)
HERE = Path(__file__).parent
# Of each fixture: bits, dtype. Rows of 32 values leave groups of 32; other widths stay dense.
CASES = {
    "gpt2_noprefix": (4, mx.float32),
    "gptj": (6, mx.float32),
    "qwen3": (8, mx.float32),
    "qwen2_tied": (3, mx.float32),
    "phi3": (2, mx.float32),
    "mixtral": (4, mx.float32),
    "qwen2_moe": (5, mx.float32),
    "llama_mha": (4, mx.bfloat16),
}
TOKENS = 12

outputs, notes = {}, {}
for name, (bits, dtype) in CASES.items():
    source, target = HERE.parent / name, HERE / name
    shutil.rmtree(target, ignore_errors=True)
    model, config = load_model(source)
    model.set_dtype(dtype)
    model, config = quantize_model(model, config, 32, bits)
    config["torch_dtype"] = str(dtype).removeprefix("mlx.core.")
    save_model(target, model)
    save_config(config, target / "config.json")
    ids = load_file(source / "golden.safetensors")["input_ids"][:, :TOKENS]
    logits = model(mx.array(ids)).astype(mx.float32)
    outputs[f"{name}.input_ids"] = ids.astype(np.int64)
    outputs[f"{name}.logits"] = np.array(logits)
    notes[name] = {"bits": bits, "group_size": 32, "dtype": config["torch_dtype"]}
save_file(outputs, HERE / "golden.safetensors")
versions = {"mlx": mx.__version__, "mlx_lm": mlx_lm.__version__}
(HERE / "meta.json").write_text(json.dumps({"kind": "mlx_families", "cases": notes, **versions}, indent=1) + "\n")
