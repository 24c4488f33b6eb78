"""Opens a checkpoint with transformers, or with peft an adapter on it, and compares its logits with `smelt logits`.

    SMELT=target/release/smelt compare_logits.py FOLDER [ADAPTER]

Exit code 0 if the largest difference is within the f32 tolerance of tests/golden/README.md.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

TOLERANCE = 2e-4
BATCH, LENGTH = 2, 24


def main(folder: str, adapter: str | None = None) -> int:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    left_out = {kind: sorted(names) for kind, names in info.items() if names}
    if left_out:
        print(f"transformers could not place every tensor: {left_out}")
        return 1

    packages = f"transformers {transformers.__version__}"
    if adapter:
        import peft

        packages = f"peft {peft.__version__}"
        model = peft.PeftModel.from_pretrained(model, adapter).eval()

    if pathlib.Path(folder, "tokenizer.json").is_file():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        text = "for file in *.sh; do echo \"$file\"; done"
        if tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) != text:
            print("the tokenizer does not give its text back")
            return 1

    torch.manual_seed(0)
    length = min(LENGTH, getattr(model.config, "max_position_embeddings", LENGTH))
    input_ids = torch.randint(0, model.config.vocab_size, (BATCH, length))
    attention_mask = torch.ones_like(input_ids)
    with torch.no_grad():
        expected = model(input_ids=input_ids, attention_mask=attention_mask).logits

    with tempfile.TemporaryDirectory() as scratch:
        source, target = f"{scratch}/input.safetensors", f"{scratch}/logits.safetensors"
        save_file({"input_ids": input_ids, "attention_mask": attention_mask}, source)
        command = [os.environ["SMELT"], "logits", "--model", folder, "--input", source, "--output", target, "--quiet"]
        subprocess.run(command + (["--adapter", adapter] if adapter else []), check=True)
        found = load_file(target)["logits"]

    if found.shape != expected.shape:
        print(f"logits have shape {list(found.shape)}, transformers gives {list(expected.shape)}")
        return 1
    difference = (found.float() - expected).abs().max().item()
    print(f"{packages}: largest difference of logits {difference:.2e}, at most {TOLERANCE:.0e}")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
