"""Runs an ONNX export with onnxruntime, and compares its logits with those of smelt on the model it came from.

    SMELT=target/release/smelt check_onnx.py MODEL_FOLDER ONNX_FOLDER

With a cache, a text is also run in two parts and token by token, and with padding on the left. Exit code 0 if
everything is within the f32 tolerance of tests/golden/README.md.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

TOLERANCE = 2e-4
BATCH, LENGTH, PADDING = 2, 20, 3


def expected_logits(folder, ids):
    with tempfile.TemporaryDirectory() as scratch:
        source, target = f"{scratch}/input.safetensors", f"{scratch}/logits.safetensors"
        save_file({"input_ids": ids}, source)
        command = [os.environ["SMELT"], "logits", "--model", folder, "--input", source, "--output", target, "--quiet"]
        subprocess.run(command, check=True)
        return load_file(target)["logits"]


class Session:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.past = {i.name: i.shape for i in self.session.get_inputs() if i.name.startswith("past_key_values.")}
        self.outputs = [output.name for output in self.session.get_outputs()]

    def empty(self, batch):
        return {name: np.zeros((batch, shape[1], 0, shape[3]), np.float32) for name, shape in self.past.items()}

    def run(self, ids, mask, positions, past):
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}
        names = {i.name for i in self.session.get_inputs()}
        found = dict(zip(self.outputs, self.session.run(None, {k: v for k, v in feeds.items() if k in names})))
        return found.pop("logits"), {name.replace("present.", "past_key_values."): value for name, value in found.items()}


def main(folder: str, exported: str) -> int:
    path = str(pathlib.Path(exported, "model.onnx"))
    onnx.checker.check_model(path, full_check=True)
    domains = {node.domain for node in onnx.load(path, load_external_data=False).graph.node}
    if domains - {"", "ai.onnx"}:
        print(f"operators of other domains: {domains}")
        return 1
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    ids = np.random.default_rng(0).integers(0, config["vocab_size"], (BATCH, LENGTH))
    expected = expected_logits(folder, ids)
    session, mask = Session(path), np.ones_like(ids)
    positions = np.broadcast_to(np.arange(LENGTH), ids.shape).copy()
    errors = {}
    errors["whole"], _ = session.run(ids, mask, positions, session.empty(BATCH))
    padded = np.concatenate([np.zeros((BATCH, PADDING), ids.dtype), ids], 1)
    padded_mask = np.concatenate([np.zeros((BATCH, PADDING), ids.dtype), mask], 1)
    padded_positions = np.maximum(padded_mask.cumsum(1) - 1, 0)
    # Frequencies that depend on the length count the padding, and keys in a cache keep those they were rotated with.
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    by_length = scaling.get("rope_type", scaling.get("type")) in ("dynamic", "longrope", "su")
    by_length = by_length or config.get("use_dynamic_ntk") or config.get("use_logn_attn")
    if not by_length:
        logits, _ = session.run(padded, padded_mask, padded_positions, session.empty(BATCH))
        errors["padded"] = logits[:, PADDING:]
    if session.past and not by_length:
        first = LENGTH // 2
        logits, past = session.run(ids[:, :first], mask[:, :first], positions[:, :first], session.empty(BATCH))
        parts = [logits]
        for at in range(first, LENGTH):
            logits, past = session.run(ids[:, at : at + 1], mask[:, : at + 1], positions[:, at : at + 1], past)
            parts.append(logits)
        errors["token by token"] = np.concatenate(parts, 1)
    errors = {name: float(np.abs(found - expected).max()) for name, found in errors.items()}
    told = ", ".join(f"{name} {error:.2e}" for name, error in errors.items())
    print(f"onnxruntime {onnxruntime.__version__}: largest difference of logits {told}, at most {TOLERANCE:.0e}")
    return int(any(not error <= TOLERANCE for error in errors.values()))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
