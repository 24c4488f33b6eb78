"""Writes the files of this folder: state dicts as torch.save writes them, and the same values in safetensors.

Run here with torch and safetensors; the versions that wrote what lies here are in meta.json.
"""

import collections
import json

import safetensors
import torch
from safetensors.torch import save_file

torch.manual_seed(7)
base = torch.randn(6, 8)
shared = torch.randn(40)


def parameter(values):
    """Python attributes make torch.save write `_rebuild_parameter_with_state`."""
    made = torch.nn.Parameter(values)
    made.note = "an attribute"
    return made


layouts = collections.OrderedDict(
    plain=base.clone(),
    transposed=torch.randn(5, 7).t(),
    sliced=base[1:5:2, 2:7:3],
    permuted=torch.randn(3, 4, 5).permute(2, 0, 1),
    first_of_shared=shared[:24].view(4, 6),
    second_of_shared=shared[16:40],
    same_as_plain_storage=base,
    one_broadcast=torch.randn(1, 9).expand(1, 9),
    scalar=torch.tensor(3.25),
    empty=torch.empty(0, 4),
    parameter=torch.nn.Parameter(torch.randn(3)),
    attributed=parameter(torch.randn(2, 2)),
)
dtypes = {
    "f32": torch.randn(5),
    "f16": torch.randn(5).half(),
    "bf16": torch.randn(5).bfloat16(),
    "f64": torch.randn(5, dtype=torch.float64),
    "i64": torch.tensor([-(2**62), 5]),
    "i32": torch.tensor([-7, 2**30], dtype=torch.int32),
    "i16": torch.tensor([-7, 300], dtype=torch.int16),
    "i8": torch.tensor([-7, 100], dtype=torch.int8),
    "u8": torch.tensor([7, 200], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "u16": torch.tensor([7, 60000], dtype=torch.uint16),
    "u32": torch.tensor([7, 2**32 - 1], dtype=torch.uint32),
    "f8": torch.randn(6).to(torch.float8_e4m3fn),
    "bf16_transposed": torch.randn(4, 3).bfloat16().t(),
}
# As a training script saves: dicts in dicts, and much that is no tensor.
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
training = {"model": module.state_dict(), "step": 12, "lr": 0.5, "args": {"name": "x", "betas": (0.9, 0.95)}}
flat_training = {f"model.{name}": value for name, value in module.state_dict().items()}

cases = {
    "layouts": (layouts, layouts, {}),
    "dtypes": (dtypes, dtypes, {}),
    "training": (training, flat_training, {}),
    "protocol4": (layouts, layouts, {"pickle_protocol": 4}),
}
for name, (saved, tensors, options) in cases.items():
    torch.save(saved, f"{name}.bin", **options)
    save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, f"{name}.safetensors")
torch.save({"a": base}, "legacy.bin", _use_new_zipfile_serialization=False)

meta = {
    "kind": "torch_files",
    "notes": "state dicts of torch.save beside the same values in safetensors",
    "torch": torch.__version__,
    "safetensors": safetensors.__version__,
}
json.dump(meta, open("meta.json", "w"), indent=1)
