"""Writes the index that transformers makes when it saves the fixtures beside this folder in shards of 40 KB.

Run here with torch and transformers; the versions that wrote what lies here are in meta.json.
"""

import json
import pathlib
import shutil
import tempfile

import torch
import transformers

# Not of mixtures of experts: transformers 5 joins their experts and saves them in the order of its joins.
NAMES = ["gemma2", "gpt2", "llama_sharded", "llama_gqa_tied", "phi3"]

for name in NAMES:
    model = transformers.AutoModelForCausalLM.from_pretrained(pathlib.Path("..") / name, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size="40KB")
        shutil.copyfile(pathlib.Path(folder) / "model.safetensors.index.json", f"{name}.index.json")

meta = {
    "kind": "shards",
    "notes": "model.safetensors.index.json of save_pretrained(max_shard_size='40KB')",
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}
json.dump(meta, open("meta.json", "w"), indent=1)
