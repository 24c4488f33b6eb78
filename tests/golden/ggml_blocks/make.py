"""Makes tests/golden/ggml_blocks: blocks of llama.cpp's k-quants and their values by the gguf package."""
import json, subprocess, sys, tempfile, pathlib
import numpy as np, gguf
from safetensors.numpy import save_file
quantize, out = sys.argv[1], pathlib.Path(sys.argv[2]); out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(20261121)
with tempfile.TemporaryDirectory() as tmp:
    src = f"{tmp}/f32.gguf"
    w = gguf.GGUFWriter(src, "llama")
    hidden, ff, vocab, heads, kv = 256, 256, 32, 4, 2
    w.add_context_length(64); w.add_embedding_length(hidden); w.add_block_count(1); w.add_feed_forward_length(ff)
    w.add_head_count(heads); w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(1e-5); w.add_vocab_size(vocab)
    w.add_rope_dimension_count(hidden // heads); w.add_tokenizer_model("none"); w.add_file_type(0)
    r = lambda *s: (rng.standard_normal(s) * rng.uniform(0.01, 0.2)).astype(np.float32)
    w.add_tensor("token_embd.weight", r(vocab, hidden)); w.add_tensor("output_norm.weight", 1 + r(hidden))
    w.add_tensor("output.weight", r(vocab, hidden))
    for n, s in [("attn_norm", (hidden,)), ("ffn_norm", (hidden,)), ("attn_q", (hidden, hidden)), ("attn_k", (hidden // 2, hidden)), ("attn_v", (hidden // 2, hidden)), ("attn_output", (hidden, hidden)), ("ffn_gate", (ff, hidden)), ("ffn_up", (ff, hidden)), ("ffn_down", (hidden, ff))]:
        w.add_tensor(f"blk.0.{n}.weight", r(*s))
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    tensors = {}
    for kind in ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]:
        dst = f"{tmp}/{kind}.gguf"
        name = kind if kind in ("Q2_K", "Q6_K") else kind + "_S"
        subprocess.run([quantize, "--pure", src, dst, name, "1"], check=True, capture_output=True)
        t = next(t for t in gguf.GGUFReader(dst).tensors if t.name == "blk.0.attn_v.weight")
        assert t.tensor_type.name == kind, (t.tensor_type.name, kind)
        blocks = t.data[:4].reshape(-1)
        tensors[f"{kind.lower()}.blocks"] = blocks.view(np.uint8).astype(np.int64)
        tensors[f"{kind.lower()}.values"] = gguf.quants.dequantize(t.data[:4], t.tensor_type).reshape(-1).astype(np.float32)
    values = r(8, 64); values[0, :32] = 0; values[1, 3] = 5; values[1, 4] = -5
    tensors["source"] = values.reshape(-1)
    for kind in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16"]:
        tensors[f"{kind.lower()}.encoded"] = gguf.quants.quantize(values, getattr(gguf.GGMLQuantizationType, kind)).view(np.uint8).reshape(-1).astype(np.int64)
    save_file(tensors, out / "golden.safetensors")
(out / "meta.json").write_text(json.dumps({"kind": "ggml_blocks", "name": "ggml_blocks", "gguf": "0.19.0", "llama.cpp": "ggml 0.25.3", "notes": "blocks of k-quants by llama-quantize --pure, their values by gguf.quants.dequantize; `source` encoded by gguf.quants.quantize. Made by make.py QUANTIZE OUTPUT"}, indent=1) + "\n")
