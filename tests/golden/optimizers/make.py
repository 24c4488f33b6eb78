"""Writes the values of this folder: twenty steps of each optimizer on three small tensors.

Gradients come from a generator of numbers that the Rust tests have as well, so they are not stored; what is
stored are parameters and state after the last step. Learning-rate schedules are those of transformers.

Run here with torch, transformers, bitsandbytes and safetensors; the versions that wrote what lies here are in
meta.json.
"""

import importlib.metadata
import json
import math

import bitsandbytes.functional as bnb
import torch
import torch.optim._muon as torch_muon
from safetensors.torch import save_file
from transformers import optimization

STEPS = 20
CLIP = 0.5
SHAPES = {"wide": (12, 20), "tall": (20, 7), "vector": (24,)}
LARGE = {"large": (83, 61)}  # over 4096 values, and a last block that is not full
EIGHT_BIT_FROM = 4096
BLOCK = 256


def numbers(count, seed):
    state = (seed * 2654435761 + 12345) & 0xFFFFFFFF
    values = []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append((state >> 8) / (1 << 23) - 1.0)
    return torch.tensor(values, dtype=torch.float32)


def start(shape, index):
    return numbers(math.prod(shape), 1 + index).reshape(shape)


def gradient(shape, index, step):
    """The last column, or element, is far smaller than the rest."""
    values = numbers(math.prod(shape), 100 * (step + 1) + index).reshape(shape).clone()
    values[..., -1] *= 1e-3
    return CLIP * values


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, arXiv:2302.06675."""

    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                update = (beta1 * m + (1 - beta1) * p.grad).sign()
                p.data.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * update)
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


class AdamW8bit(torch.optim.Optimizer):
    """AdamW whose moments lie in bitsandbytes' dynamic 8-bit code between steps (Dettmers et al. 2021).

    A second moment above zero never becomes zero, as the code would make it. Codes are the nearest ones:
    bitsandbytes' own quantize_blockwise looks them up by 16 bits on the CPU, and is off near zero.
    """

    def __init__(self, params, lr, betas, eps, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        self.codes = [bnb.create_dynamic_map(signed=True), bnb.create_dynamic_map(signed=False)]

    def unpack(self, state, name, code, shape):
        values = torch.zeros(math.prod(shape))
        if name in state:
            absmax = state[name + "_absmax"].repeat_interleave(BLOCK)[: values.numel()]
            values = code[state[name].long()] * absmax
        return values.reshape(shape)

    def pack(self, state, name, code, values, lowest):
        flat = values.flatten()
        blocks = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
        absmax = blocks.abs().amax(1)
        shares = flat / absmax.repeat_interleave(BLOCK)[: len(flat)]
        packed = torch.bucketize(shares, (code[1:] + code[:-1]) / 2)
        if lowest:
            packed = torch.where(flat > 0, packed.clamp(min=1), packed)
        state[name], state[name + "_absmax"] = packed.to(torch.uint8), absmax

    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                number = state["step"] = state.get("step", 0) + 1
                m = self.unpack(state, "exp_avg", self.codes[0], p.shape)
                v = self.unpack(state, "exp_avg_sq", self.codes[1], p.shape)
                m = beta1 * m + (1 - beta1) * p.grad
                v = beta2 * v + (1 - beta2) * p.grad * p.grad
                denominator = v.sqrt() / math.sqrt(1 - beta2**number) + group["eps"]
                p.data.mul_(1 - group["lr"] * group["weight_decay"])
                p.data.sub_(group["lr"] / (1 - beta1**number) * m / denominator)
                self.pack(state, "exp_avg", self.codes[0], m, False)
                self.pack(state, "exp_avg_sq", self.codes[1], v, True)


ADAM = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CASES = {
    "adamw": (torch.optim.AdamW, ADAM, SHAPES),
    "adamw_8bit": (AdamW8bit, ADAM, LARGE),
    "adafactor": (torch.optim.Adafactor, dict(lr=1e-2, weight_decay=0.1), SHAPES),
    "lion": (Lion, dict(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.3), SHAPES),
    "sgd": (torch.optim.SGD, dict(lr=1e-2, momentum=0.9, weight_decay=0.1), SHAPES),
    "sgd_nesterov": (torch.optim.SGD, dict(lr=1e-2, momentum=0.9, weight_decay=0.1, nesterov=True), SHAPES),
    "sgd_plain": (torch.optim.SGD, dict(lr=1e-2, weight_decay=0.1), SHAPES),
}
MATRICES = {name: SHAPES[name] for name in ["wide", "tall"]}
for adjust in ["original", "match_rms_adamw", "spectral_unclamped"]:
    CASES[f"muon_{adjust}"] = (
        torch.optim.Muon,
        dict(lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn=adjust),
        MATRICES,
    )


def exact_newton_schulz(grad, coefficients, steps, eps):
    """torch's, in f32 where torch rounds to bf16."""
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


def run(name, optimizer, options, shapes, tensors):
    params = {key: torch.nn.Parameter(start(shape, i)) for i, (key, shape) in enumerate(shapes.items())}
    optimizer = optimizer(params.values(), **options)
    for step in range(STEPS):
        for i, (key, shape) in enumerate(shapes.items()):
            params[key].grad = gradient(shape, i, step)
        optimizer.step()
    for key, p in params.items():
        tensors[f"{name}.{key}"] = p.detach().clone()
        for slot, value in optimizer.state[p].items():
            if slot != "step" and value is not None:
                tensors[f"{name}.{key}.{slot}"] = value.to(torch.int64) if value.dtype == torch.uint8 else value


tensors = {}
run("muon_bf16", *CASES["muon_original"], tensors)
torch_muon._zeropower_via_newtonschulz = exact_newton_schulz
for name, case in CASES.items():
    run(name, *case, tensors)
for signed in [True, False]:
    tensors[f"code.{'signed' if signed else 'unsigned'}"] = bnb.create_dynamic_map(signed=signed)


def rates(make, **options):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = make(optimizer, num_warmup_steps=0, **options)
    values = []
    for _ in range(100):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


wsd = dict(num_stable_steps=70, num_decay_steps=30, min_lr_ratio=0.1)
schedules = {
    "linear": rates(optimization.get_linear_schedule_with_warmup, num_training_steps=100),
    "cosine": rates(optimization.get_cosine_schedule_with_warmup, num_training_steps=100),
} | {
    f"wsd {kind}": rates(optimization.get_wsd_schedule, decay_type=kind, **wsd)
    for kind in ["1-sqrt", "linear", "cosine"]
}

versions = {name: importlib.metadata.version(name) for name in ["torch", "transformers", "bitsandbytes"]}
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, "golden.safetensors")
with open("meta.json", "w") as file:
    json.dump(dict(kind="optimizers", made_with=versions, steps=STEPS, schedules=schedules), file, indent=1)
    file.write("\n")
