"""Opens a quantized folder of smelt in mlx-lm: logits against those that smelt computes, and, given the model that it
was made from, every tensor against mlx-lm's own conversion.

    check_mlx.py QUANTIZED [SOURCE]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model, quantize_model, save_model
from safetensors.numpy import load_file, save_file

mx.set_default_device(mx.cpu)
quantized = Path(sys.argv[1])
config = json.loads((quantized / "config.json").read_text())
with tempfile.TemporaryDirectory() as folder:
    ids = (np.arange(24, dtype=np.int64).reshape(2, 12) * 7919 + 13) % config["vocab_size"]
    save_file({"input_ids": ids, "attention_mask": np.ones_like(ids)}, f"{folder}/in.safetensors")
    command = ["logits", "--model", str(quantized), "--input", f"{folder}/in.safetensors"]
    subprocess.run([os.environ["SMELT"], *command, "--output", f"{folder}/out.safetensors", "--quiet"], check=True)
    ours = load_file(f"{folder}/out.safetensors")["logits"]

    model, _ = load_model(quantized)
    theirs = np.array(model(mx.array(ids)).astype(mx.float32))
    error = float(np.abs(ours - theirs).max())
    narrow = model.model.norm.weight.dtype if hasattr(model.model, "norm") else mx.float32
    # In 16 bits mlx rounds every activation.
    tolerance = 1e-4 if narrow == mx.float32 else 0.5
    assert error <= tolerance * max(1.0, float(np.abs(theirs).max())), f"{quantized}: logits differ by {error}"

    compared = 0
    if len(sys.argv) > 2:
        settings = config["quantization"]
        source, source_config = load_model(Path(sys.argv[2]))
        source, _ = quantize_model(source, source_config, settings["group_size"], settings["bits"])
        save_model(folder, source)
        expected, found = mx.load(f"{folder}/model.safetensors"), mx.load(str(quantized / "model.safetensors"))
        assert sorted(expected) == sorted(found), "the tensors have other names"
        for name, tensor in expected.items():
            assert tensor.dtype == found[name].dtype and mx.array_equal(tensor, found[name]), f"{name} differs"
        compared = len(expected)
print(f"{quantized}: mlx-lm computes the same to {error:.1e}; {compared} tensors equal its own")
