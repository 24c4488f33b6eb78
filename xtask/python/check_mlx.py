"""Opens a folder with mlx-lm, and compares its logits with those of smelt on the model it came from.

    SMELT=target/release/smelt check_mlx.py MODEL_FOLDER MLX_FOLDER

Exit code 0 if the largest difference is within the f32 tolerance of tests/golden/README.md for MLX.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model
from safetensors.numpy import load_file, save_file

TOLERANCE = 2e-4
BATCH, LENGTH = 2, 24


def main(folder: str, exported: str) -> int:
    mx.set_default_device(mx.cpu)
    model, config = load_model(pathlib.Path(exported))
    ids = np.random.default_rng(0).integers(0, config["vocab_size"], (BATCH, LENGTH))
    with tempfile.TemporaryDirectory() as scratch:
        source, target = f"{scratch}/input.safetensors", f"{scratch}/logits.safetensors"
        save_file({"input_ids": ids}, source)
        command = [os.environ["SMELT"], "logits", "--model", folder, "--input", source, "--output", target, "--quiet"]
        subprocess.run(command, check=True)
        expected = load_file(target)["logits"]
    found = np.array(model(mx.array(ids)).astype(mx.float32))
    difference = float(np.abs(found - expected).max())
    print(f"mlx-lm: largest difference of logits {difference:.2e}, at most {TOLERANCE:.0e}")
    return int(not difference <= TOLERANCE)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
