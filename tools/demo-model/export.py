"""export.py CHECKPOINT [OUT.gguf] [--f16]: writes the trained model as one GGUF file."""
import argparse

import numpy as np
import torch

import gguf as G
from common import CONTROL, GGUF_PATH, MEDIA, Tokenizer
from model import CONFIG, Model

# our own short template; the server renders Gemma 4 prompts itself, other programs get a working plain chat
TEMPLATE = ("{{ bos_token }}{%- for m in messages -%}\n<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
            "{{ m['content'] | trim }}<turn|>\n{% endfor -%}\n{%- if add_generation_prompt -%}<|turn>model\n{% endif -%}\n")


def export(state, path, f16=False):
    c, tok = CONFIG, Tokenizer.load()
    kinds = c["pattern"]
    n = len(kinds)
    s = lambda k, v: (k, G.STR, v)
    u = lambda k, v: ("gemma4." + k, G.U32, v)
    user = {48, 49, 50, 51, 52, 100, 101}
    types = []
    for i, t in enumerate(tok.tokens):
        types.append(2 if i == 3 else 4 if i in user else 3 if i in CONTROL or t in MEDIA else 5 if t.startswith("<unused") else
                     6 if t.startswith("<0x") and len(t) == 6 else 1)
    meta = [s("general.architecture", "gemma4"), s("general.type", "model"), s("general.name", "GemmaServer demo model"),
            s("general.description", "A very small model with the Gemma 4 architecture, trained from nothing on generated conversations. For demonstrations and tests only."),
            s("general.license", "apache-2.0"), ("general.languages", (G.ARR, G.STR), ["en"]),
            ("general.sampling.top_k", G.I32, 4), ("general.sampling.top_p", G.F32, 0.9), ("general.sampling.temp", G.F32, 0.2),
            u("context_length", c["context"]), u("embedding_length", c["hidden"]), u("block_count", n),
            ("gemma4.feed_forward_length", (G.ARR, G.I32), [c["ffn"] * (2 if l >= c["wide_from"] else 1) for l in range(n)]),
            u("attention.head_count", c["heads"]), u("attention.head_count_kv", c["kv_heads"]), ("gemma4.attention.layer_norm_rms_epsilon", G.F32, 1e-6),
            u("attention.key_length", c["global_head_dim"]), u("attention.value_length", c["global_head_dim"]),
            u("attention.key_length_swa", c["head_dim"]), u("attention.value_length_swa", c["head_dim"]), u("attention.sliding_window", c["window"]),
            ("gemma4.attention.sliding_window_pattern", (G.ARR, G.BOOL), [k == "S" for k in kinds]), u("attention.shared_kv_layers", c["kv_shared"]),
            ("gemma4.rope.freq_base", G.F32, c["rope_base"]), ("gemma4.rope.freq_base_swa", G.F32, c["rope_base_swa"]),
            u("rope.dimension_count", c["global_head_dim"]), u("rope.dimension_count_swa", c["head_dim"]),
            u("embedding_length_per_layer_input", c["ple"]), ("gemma4.final_logit_softcapping", G.F32, c["softcap"]),
            s("tokenizer.ggml.model", "gemma4"), ("tokenizer.ggml.tokens", (G.ARR, G.STR), tok.tokens),
            ("tokenizer.ggml.scores", (G.ARR, G.F32), [-1000.0] * len(tok.tokens)), ("tokenizer.ggml.token_type", (G.ARR, G.I32), types),
            ("tokenizer.ggml.merges", (G.ARR, G.STR), tok.merges)]
    meta += [(f"tokenizer.ggml.{k}_token_id", G.U32, v) for k, v in (("bos", 2), ("eos", 106), ("unknown", 3), ("padding", 0), ("mask", 4))]
    meta += [("tokenizer.ggml.add_space_prefix", G.BOOL, False), ("tokenizer.ggml.add_bos_token", G.BOOL, True), s("tokenizer.chat_template", TEMPLATE),
             ("general.quantization_version", G.U32, 2), ("general.file_type", G.U32, 1 if f16 else 7)]
    w = {k.split("params.")[-1].replace("/", "."): v.float().numpy() for k, v in state.items()}
    # real checkpoints carry unused k/v tensors on the layers that share KV; keep that layout (zeros, nobody reads them)
    for l in range(n - c["kv_shared"], n):
        d = (c["head_dim"] if kinds[l] == "S" else c["global_head_dim"])
        for t in "kv":
            w[f"blk.{l}.attn_{t}"] = np.zeros((c["kv_heads"] * d, c["hidden"]), np.float32)
        w[f"blk.{l}.attn_k_norm"] = np.ones(d, np.float32)
    rot = int(0.25 * c["global_head_dim"] / 2)
    w["rope_freqs"] = np.array([1.0] * rot + [1e30] * (c["global_head_dim"] // 2 - rot), np.float32)
    big = G.T_F16 if f16 else G.T_Q8_0
    order = sorted(w, key=lambda k: (k.startswith("blk."), int(k.split(".")[1]) if k.startswith("blk.") else 0, k))
    tensors = [(k + ".weight", w[k], G.T_F32 if w[k].ndim == 1 or (k == "per_layer_model_proj" and not f16) else big) for k in order]
    G.write(path, meta, tensors)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("checkpoint")
    p.add_argument("out", nargs="?", default=GGUF_PATH)
    p.add_argument("--f16", action="store_true")
    a = p.parse_args()
    import os
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    export(torch.load(a.checkpoint, map_location="cpu"), a.out, a.f16)
    print(a.out, os.path.getsize(a.out), "bytes;", "parameters (core, tables):", Model(CONFIG).counts())
