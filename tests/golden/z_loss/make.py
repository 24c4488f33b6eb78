"""Writes the values of this folder: cross-entropy with PaLM's z-loss (arXiv:2204.02311), and its gradient.

Run here with torch and safetensors; the versions that wrote what lies here are in meta.json.
"""

import importlib.metadata
import json

import torch
from safetensors.torch import save_file

torch.manual_seed(5)
COEFFICIENT = 0.02
logits = (4 * torch.randn(9, 37)).requires_grad_()
targets = torch.randint(37, (9,))
weights = torch.tensor([0.1, 0.0, 0.3, 1.0, 0.2, 0.0, 0.5, 0.05, 0.7])
log_z = torch.logsumexp(logits, dim=1)
likelihood = (weights * torch.nn.functional.cross_entropy(logits, targets, reduction="none")).sum()
z_loss = (weights * COEFFICIENT * log_z**2).sum()
(likelihood + z_loss).backward()
save_file(
    dict(
        logits=logits.detach(),
        targets=targets,
        weights=weights,
        coefficient=torch.tensor(COEFFICIENT),
        likelihood=likelihood.detach().reshape(1),
        z_loss=z_loss.detach().reshape(1),
        gradient=logits.grad,
    ),
    "golden.safetensors",
)
with open("meta.json", "w") as file:
    json.dump(dict(kind="z_loss", made_with={"torch": importlib.metadata.version("torch")}), file, indent=1)
    file.write("\n")
