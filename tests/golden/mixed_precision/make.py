"""Writes the values of this folder: twenty steps of train_llama under torch.autocast in bf16.

Run here with torch, transformers and safetensors; the versions that wrote what lies here are in meta.json.
"""

import importlib.metadata
import json

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

STEPS = 20
torch.set_num_threads(1)
data = load_file("../train_llama/golden.safetensors")
hyper = json.load(open("../train_llama/meta.json"))["hyper"]


def run(dtype):
    model = AutoModelForCausalLM.from_pretrained("../train_llama", torch_dtype=torch.float32)
    model.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        model.parameters(), hyper["lr"], hyper["betas"], hyper["eps"], hyper["weight_decay"]
    )
    losses, norms, first = [], [], None
    for step in range(STEPS):
        ids = data["batches"][step % len(data["batches"])]
        keep = data["attention_mask"][step % len(data["batches"])]
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            logits = model(input_ids=ids, attention_mask=keep).logits
        labels = ids.masked_fill(keep == 0, -100)[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        first = first or {name: p.grad.clone() for name, p in model.named_parameters()}
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), hyper["clip"]).item())
        losses.append(loss.item())
        optimizer.step()
    return losses, norms, first


losses, norms, gradients = run(torch.bfloat16)
exact_losses, _, exact_gradients = run(torch.float32)
names = ["torch", "transformers"]
norm = torch.sqrt(sum((g**2).sum() for g in exact_gradients.values()))
error = torch.sqrt(sum(((gradients[n] - g) ** 2).sum() for n, g in exact_gradients.items()))
save_file({name: g.to(torch.bfloat16).float() for name, g in gradients.items() if "layers.1" in name or "head" in name},
          "golden.safetensors")
meta = dict(
    kind="mixed_precision",
    made_with={name: importlib.metadata.version(name) for name in names},
    losses=losses,
    grad_norms=norms,
    f32_losses=exact_losses,
    relative_error_of_first_gradient=(error / norm).item(),
)
with open("meta.json", "w") as file:
    json.dump(meta, file, indent=1)
    file.write("\n")
