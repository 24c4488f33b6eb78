"""Writes the values of this folder: what mlx.core.quantize makes of a few rows, in every format.

Run here with mlx (on a CPU), numpy and safetensors; the versions that wrote what lies here are in meta.json.
"""

import importlib.metadata
import json

import mlx.core as mx
import numpy as np
from safetensors.numpy import save_file

ROWS, FEATURES = 6, 128


def numbers(count, seed):
    """The generator of smelt_testkit::numbers."""
    state, values = (seed * 2654435761 + 12345) % 2**32, []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((state >> 8) / 2**23 - 1)
    return np.array(values, dtype=np.float32)


values = numbers(ROWS * FEATURES, 7).reshape(ROWS, FEATURES)
values[1] = values[1] * 0.02 - 0.5  # far from 0, all negative
values[2] = np.round(values[2] * 8) / 8  # few values, and ties
values[3] = 0
values[3, 100] = 3e-8
values[4] = values[4] ** 5 * 300  # outliers
values[5] = np.abs(values[5]) * 1e-4

golden = {"values": values}
for dtype in ["float32", "float16", "bfloat16"]:
    for bits in [2, 3, 4, 5, 6, 8]:
        for group_size in [32, 64, 128]:
            w = mx.array(values).astype(getattr(mx, dtype))
            packed, scales, biases = mx.quantize(w, group_size=group_size, bits=bits)
            name = f"{dtype}.{bits}.{group_size}"
            golden[f"{name}.packed"] = np.array(packed).astype(np.int64)
            golden[f"{name}.scales"] = np.array(scales.astype(mx.float32))
            golden[f"{name}.biases"] = np.array(biases.astype(mx.float32))
            if group_size == 64:
                wide = mx.dequantize(packed, scales, biases, group_size=group_size, bits=bits)
                golden[f"{name}.dequantized"] = np.array(wide.astype(mx.float32))

save_file(golden, "golden.safetensors")
with open("meta.json", "w") as file:
    json.dump(dict(kind="quantize", made_with={"mlx": importlib.metadata.version("mlx")}), file, indent=1)
    file.write("\n")
