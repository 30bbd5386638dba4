"""The Gemma 4 E-series text graph in PyTorch, small enough to train on a CPU.

Follows the published architecture: sandwich RMS norms (weight used as it is), q/k norms with attention scale 1,
v norm without weight, p-RoPE on full layers, per-layer embeddings (PLE), KV sharing by the last layers,
tanh-GELU, a scalar per layer, tied embeddings, soft-capped logits.
"""
import ctypes
import math
import os
import subprocess

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
EPS = 1e-6


# ---------------------------------------------------------------- kernels
def _load_kernels():
    try:
        so = os.path.join(HERE, "work", "kernels.so")
        src = os.path.join(HERE, "kernels.c")
        if not os.path.exists(so) or os.path.getmtime(so) < os.path.getmtime(src):
            os.makedirs(os.path.dirname(so), exist_ok=True)
            tmp = so + f".{os.getpid()}"
            subprocess.check_call(["gcc", "-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-shared",
                                   "-fPIC", src, "-o", tmp, "-lm"])
            os.replace(tmp, so)
        lib = ctypes.CDLL(so)
        for f in (lib.rms_fwd, lib.rms_bwd, lib.geglu_fwd, lib.geglu_bwd, lib.softmax_fwd, lib.softmax_bwd, lib.softmax16_fwd, lib.softmax16_bwd):
            f.restype = None
        return lib
    except Exception as e:  # no compiler: slower, same results
        print("kernels not available:", e)
        return None


LIB = _load_kernels()


def _p(t):
    return ctypes.c_void_p(t.data_ptr()) if t is not None else None


class _Rms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        x = x.contiguous()
        d = x.shape[-1]
        y, r = torch.empty_like(x), x.new_empty(x.numel() // d)
        LIB.rms_fwd(_p(x), _p(w), _p(y), _p(r), ctypes.c_long(r.numel()), ctypes.c_long(d), ctypes.c_float(EPS))
        ctx.save_for_backward(x, w, r)
        return y

    @staticmethod
    def backward(ctx, g):
        x, w, r = ctx.saved_tensors
        g = g.contiguous()
        dx = torch.empty_like(x)
        dw = torch.zeros_like(w) if w is not None else None
        LIB.rms_bwd(_p(g), _p(x), _p(w), _p(r), _p(dx), _p(dw), ctypes.c_long(r.numel()), ctypes.c_long(x.shape[-1]))
        return dx, dw


class _Geglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        a, b = a.contiguous(), b.contiguous()
        y = torch.empty_like(a)
        LIB.geglu_fwd(_p(a), _p(b), _p(y), ctypes.c_long(a.numel()))
        ctx.save_for_backward(a, b)
        return y

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        g = g.contiguous()
        da, db = torch.empty_like(a), torch.empty_like(b)
        LIB.geglu_bwd(_p(g), _p(a), _p(b), _p(da), _p(db), ctypes.c_long(a.numel()))
        return da, db


class _CausalSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s, win):
        s = s.contiguous()
        t = s.shape[-1]
        LIB.softmax_fwd(_p(s), ctypes.c_long(s.numel() // (t * t)), ctypes.c_long(t), ctypes.c_long(win))
        ctx.mark_dirty(s)
        ctx.save_for_backward(s)
        return s

    @staticmethod
    def backward(ctx, g):
        s, = ctx.saved_tensors
        g = g.contiguous().clone()
        t = s.shape[-1]
        LIB.softmax_bwd(_p(s), _p(g), ctypes.c_long(s.numel() // (t * t)), ctypes.c_long(t))
        return g, None


class _Linear16(torch.autograd.Function):
    """x W^T with bfloat16 operands and float32 results: four times as fast on CPUs with AVX512-BF16"""

    @staticmethod
    def forward(ctx, x, w):
        xb, wb = x.reshape(-1, x.shape[-1]).bfloat16(), w.bfloat16()
        ctx.save_for_backward(xb, wb)
        return (xb @ wb.t()).float().view(*x.shape[:-1], w.shape[0])

    @staticmethod
    def backward(ctx, g):
        xb, wb = ctx.saved_tensors
        gb = g.reshape(-1, g.shape[-1]).bfloat16()
        return (gb @ wb).float().view(*g.shape[:-1], wb.shape[1]), (gb.t() @ xb).float()


class _Attention16(torch.autograd.Function):
    """causal attention core with bfloat16 products; q [n, heads*T, d], k and v [n, T, d]"""

    @staticmethod
    def forward(ctx, q, k, v, win):
        q, k, v = q.bfloat16(), k.bfloat16(), v.bfloat16()
        p = torch.bmm(q, k.transpose(1, 2))
        t = k.shape[1]
        LIB.softmax16_fwd(_p(p), ctypes.c_long(p.numel() // (t * t)), ctypes.c_long(t), ctypes.c_long(win))
        ctx.save_for_backward(q, k, v, p)
        return torch.bmm(p, v).float()

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        g = g.bfloat16()
        t = k.shape[1]
        ds = torch.bmm(g, v.transpose(1, 2))
        LIB.softmax16_bwd(_p(p), _p(ds), ctypes.c_long(p.numel() // (t * t)), ctypes.c_long(t))
        return (torch.bmm(ds, k).float(), torch.bmm(ds.transpose(1, 2), q).float(), torch.bmm(p.transpose(1, 2), g).float(), None)


def rms(x, w=None):
    if LIB is not None and x.dtype == torch.float32:
        return _Rms.apply(x, w)
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)
    return y if w is None else y * w


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def geglu(a, b):
    if LIB is not None and a.dtype == torch.float32:
        return _Geglu.apply(a, b)
    return gelu_tanh(a) * b


def causal_softmax(s, win):
    if LIB is not None and s.dtype == torch.float32:
        return _CausalSoftmax.apply(s, win)
    t = s.shape[-1]
    i, j = torch.arange(t)[:, None], torch.arange(t)[None, :]
    return s.masked_fill(~((j <= i) & (j > i - win)), float("-inf")).softmax(-1)


# ---------------------------------------------------------------- configuration
CONFIG = dict(vocab=1024, hidden=128, pattern="SSFSSFSF", ffn=256, wide_from=6, kv_shared=2, heads=4, kv_heads=1,
              head_dim=32, global_head_dim=64, ple=32, window=128, context=4096, rope_base=1e6, rope_base_swa=1e4,
              softcap=30.0)


class Model(nn.Module):
    def __init__(self, c, init=True):
        super().__init__()
        self.c = c
        h, n = c["hidden"], len(c["pattern"])
        self.first_shared = n - c["kv_shared"]
        P = self.params = nn.ParameterDict()

        def add(name, *shape, std=None, fill=None):
            t = torch.empty(*shape)
            t.fill_(fill) if fill is not None else t.normal_(0, std)
            P[name.replace(".", "/")] = nn.Parameter(t)

        lin = lambda name, o, i, s=1.0: add(name, o, i, std=s / math.sqrt(i))
        add("token_embd", c["vocab"], h, std=1 / math.sqrt(h))   # unit-size input after *sqrt(h), sane tied logits
        add("output_norm", h, fill=1.0)
        add("per_layer_token_embd", c["vocab"], n * c["ple"], std=1 / math.sqrt(c["ple"]))
        lin("per_layer_model_proj", n * c["ple"], h)
        add("per_layer_proj_norm", c["ple"], fill=1.0)
        for l, kind in enumerate(c["pattern"]):
            d = c["head_dim"] if kind == "S" else c["global_head_dim"]
            ff = c["ffn"] * (2 if l >= c["wide_from"] else 1)
            b = f"blk.{l}."
            add(b + "attn_norm", h, fill=1.0)
            lin(b + "attn_q", c["heads"] * d, h)
            add(b + "attn_q_norm", d, fill=1.3 * d ** -0.25)     # attention scale is 1: the norms carry it
            if l < self.first_shared:
                lin(b + "attn_k", c["kv_heads"] * d, h)
                add(b + "attn_k_norm", d, fill=1.3 * d ** -0.25)
                lin(b + "attn_v", c["kv_heads"] * d, h)
            lin(b + "attn_output", h, c["heads"] * d)
            add(b + "post_attention_norm", h, fill=0.4)
            add(b + "ffn_norm", h, fill=1.0)
            lin(b + "ffn_gate", ff, h)
            lin(b + "ffn_up", ff, h)
            lin(b + "ffn_down", h, ff)
            add(b + "post_ffw_norm", h, fill=0.4)
            lin(b + "inp_gate", c["ple"], h)
            lin(b + "proj", h, c["ple"])
            add(b + "post_norm", h, fill=0.2)
            add(b + "layer_output_scale", 1, fill=1.0)
        self._rope = {}
        self.int8 = self.bf16 = False

    def w(self, name):
        return self.params[name.replace(".", "/")]

    def lin(self, x, name):
        """matrix product; with int8 set, the activations are rounded to Q8_0 blocks as the server does for Q8_0 weights"""
        if self.int8:
            b = x.reshape(-1, 32)
            d = b.abs().amax(1, keepdim=True) / 127
            x = ((b / d.clamp_min(1e-30)).round() * d.half().float()).view(x.shape)
        if self.bf16:
            return _Linear16.apply(x, self.w(name))
        return F.linear(x, self.w(name))

    def rope_table(self, kind, t):
        key = (kind, t, self.w("output_norm").dtype)
        if key not in self._rope:
            c = self.c
            d = c["head_dim"] if kind == "S" else c["global_head_dim"]
            i = torch.arange(d // 2, dtype=torch.float64)
            inv = (c["rope_base_swa"] if kind == "S" else c["rope_base"]) ** (-2 * i / d)
            if kind == "F":                                       # p-RoPE: only the first quarter of the pairs turns
                inv[int(0.25 * d / 2):] = 0
            th = torch.arange(t, dtype=torch.float64)[:, None] * inv
            cs, sn = th.cos(), th.sin()
            dt = key[2]
            self._rope[key] = (torch.cat([cs, cs], 1).to(dt), torch.cat([-sn, sn], 1).to(dt))
        return self._rope[key]

    def rope(self, x, kind):                                      # x [B, heads, T, d], pairs (i, i + d/2)
        cs, sn = self.rope_table(kind, x.shape[2])
        d = x.shape[-1] // 2
        return x * cs + torch.cat([x[..., d:], x[..., :d]], -1) * sn

    def forward(self, ids, rows=None):
        """ids [B, T] right-padded. rows: flat positions whose logits are wanted (all if None)."""
        c, w = self.c, self.w
        B, T = ids.shape
        h, n, P = c["hidden"], len(c["pattern"]), c["ple"]
        x = F.embedding(ids, w("token_embd")) * math.sqrt(h)
        ple = self.lin(x, "per_layer_model_proj") * h ** -0.5
        ple = rms(ple.view(B, T, n, P), w("per_layer_proj_norm"))
        tok = F.embedding(ids, w("per_layer_token_embd")).view(B, T, n, P) * math.sqrt(P)
        ple = (ple + tok) * 2 ** -0.5
        H, G = c["heads"], c["kv_heads"]
        kv = {}
        for l, kind in enumerate(c["pattern"]):
            b = f"blk.{l}."
            d = c["head_dim"] if kind == "S" else c["global_head_dim"]
            a = rms(x, w(b + "attn_norm"))
            q = rms(self.lin(a, b + "attn_q").view(B, T, H, d), w(b + "attn_q_norm")).transpose(1, 2)
            q = self.rope(q, kind)
            if l < self.first_shared:
                k = rms(self.lin(a, b + "attn_k").view(B, T, G, d), w(b + "attn_k_norm")).transpose(1, 2)
                v = rms(self.lin(a, b + "attn_v").view(B, T, G, d)).transpose(1, 2)
                kv[kind] = (self.rope(k, kind), v)
            k, v = kv[kind]
            # group the query heads of one KV head into one long batch of rows
            q = q.reshape(B * G, H // G, T, d)
            k, v = k.reshape(B * G, 1, T, d), v.reshape(B * G, 1, T, d)
            q, k, v, win = q.reshape(B * G, H // G * T, d), k.squeeze(1), v.squeeze(1), c["window"] if kind == "S" else 1 << 30
            if self.bf16:
                o = _Attention16.apply(q, k, v, win)
            else:
                p = causal_softmax(torch.matmul(q, k.transpose(1, 2)).view(B * G, H // G, T, T), win)
                o = torch.matmul(p.view(B * G, H // G * T, T), v)
            o = o.view(B, H, T, d).transpose(1, 2).reshape(B, T, H * d)
            x = x + rms(self.lin(o, b + "attn_output"), w(b + "post_attention_norm"))
            f = rms(x, w(b + "ffn_norm"))
            f = self.lin(geglu(self.lin(f, b + "ffn_gate"), self.lin(f, b + "ffn_up")), b + "ffn_down")
            x = x + rms(f, w(b + "post_ffw_norm"))
            g = geglu(self.lin(x, b + "inp_gate"), ple[:, :, l])
            x = x + rms(self.lin(g, b + "proj"), w(b + "post_norm"))
            x = x * w(b + "layer_output_scale")
        x = x.reshape(B * T, h)
        if rows is not None:
            x = x[rows]
        x = rms(x, w("output_norm"))
        return c["softcap"] * torch.tanh(self.lin(x, "token_embd") / c["softcap"])

    def counts(self):
        emb = sum(self.w(k).numel() for k in ("token_embd", "per_layer_token_embd"))
        return sum(p.numel() for p in self.parameters()) - emb, emb
