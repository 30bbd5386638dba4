"""Greedy answers of the exported GGUF file to heldback.json (or to fresh training-like prompts with --dev N).

evaluate.py [FILE.gguf] [--int8] [--dev N] [--verbose]
evaluate.py --server http://localhost:8000      (the same list through a running server)
Everything - weights, shapes, tokenizer - is read back from the file. --int8 rounds activations to Q8_0 blocks as
the server does for Q8_0 weights.
"""
import argparse
import json
import math
import os
import re
import urllib.request
from collections import Counter, defaultdict

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import torch

import gguf as G
from common import GGUF_PATH, HELDBACK, Tokenizer, render
from model import Model, geglu, rms

STOP = {1, 50, 106}


def load(path):
    meta, w, types = G.read(path)
    g = lambda k: meta["gemma4." + k]
    pat = "".join("S" if x else "F" for x in g("attention.sliding_window_pattern"))
    ff = g("feed_forward_length")
    c = dict(vocab=len(meta["tokenizer.ggml.tokens"]), hidden=g("embedding_length"), pattern=pat, ffn=ff[0],
             wide_from=next((i for i, f in enumerate(ff) if f > ff[0]), len(ff)), kv_shared=g("attention.shared_kv_layers"),
             heads=g("attention.head_count"), kv_heads=g("attention.head_count_kv"), head_dim=g("attention.key_length_swa"),
             global_head_dim=g("attention.key_length"), ple=g("embedding_length_per_layer_input"), window=g("attention.sliding_window"),
             context=g("context_length"), rope_base=g("rope.freq_base"), rope_base_swa=g("rope.freq_base_swa"), softcap=g("final_logit_softcapping"))
    m = Model(c)
    with torch.no_grad():
        for k, p in m.params.items():
            p.copy_(torch.from_numpy(w[k.replace("/", ".") + ".weight"]))
    return m, Tokenizer(meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.merges"])


class Runner:
    """token by token with a KV cache, as a server would run it"""

    def __init__(self, m):
        self.m, self.kv, self.n = m, {}, 0

    def feed(self, ids):
        m, c, w = self.m, self.m.c, self.m.w
        T, L, P, H = len(ids), len(c["pattern"]), c["ple"], c["heads"]
        t = torch.tensor(ids)
        x = w("token_embd")[t] * math.sqrt(c["hidden"])
        ple = rms((m.lin(x, "per_layer_model_proj") * c["hidden"] ** -0.5).view(T, L, P), w("per_layer_proj_norm"))
        ple = (ple + w("per_layer_token_embd")[t].view(T, L, P) * math.sqrt(P)) * 2 ** -0.5
        pos = torch.arange(self.n, self.n + T)[:, None]
        j = torch.arange(self.n + T)[None]
        for l, kind in enumerate(c["pattern"]):
            b = f"blk.{l}."
            d = c["head_dim"] if kind == "S" else c["global_head_dim"]
            cs, sn = (z[self.n:self.n + T, None] for z in m.rope_table(kind, self.n + T if self.n + T > 640 else 640))
            rope = lambda v: v * cs + torch.cat([v[..., d // 2:], v[..., :d // 2]], -1) * sn
            a = rms(x, w(b + "attn_norm"))
            q = rope(rms(m.lin(a, b + "attn_q").view(T, H, d), w(b + "attn_q_norm")))
            if l < m.first_shared:
                k = rope(rms(m.lin(a, b + "attn_k").view(T, 1, d), w(b + "attn_k_norm")))[:, 0]
                v = rms(m.lin(a, b + "attn_v").view(T, d))
                if l in self.kv:
                    k, v = torch.cat([self.kv[l][0], k]), torch.cat([self.kv[l][1], v])
                self.kv[l] = self.kv[kind] = (k, v)
            k, v = self.kv[kind]
            ok = (j <= pos) & (j > pos - (c["window"] if kind == "S" else 1 << 30))
            p = torch.einsum("thd,sd->hts", q, k).masked_fill(~ok, float("-inf")).softmax(-1)
            o = torch.einsum("hts,sd->thd", p, v).reshape(T, H * d)
            x = x + rms(m.lin(o, b + "attn_output"), w(b + "post_attention_norm"))
            f = rms(x, w(b + "ffn_norm"))
            f = m.lin(geglu(m.lin(f, b + "ffn_gate"), m.lin(f, b + "ffn_up")), b + "ffn_down")
            x = x + rms(f, w(b + "post_ffw_norm"))
            g = geglu(m.lin(x, b + "inp_gate"), ple[:, l])
            x = (x + rms(m.lin(g, b + "proj"), w(b + "post_norm"))) * w(b + "layer_output_scale")
        self.n += T
        return c["softcap"] * torch.tanh(m.lin(rms(x[-1:], w("output_norm")), "token_embd")[0] / c["softcap"])


def generate(m, tok, prompt, limit=160):
    with torch.no_grad():
        r, out = Runner(m), []
        logits = r.feed(tok.encode(prompt))
        while len(out) < limit:
            i = int(logits.argmax())
            if i in STOP:
                break
            out.append(i)
            logits = r.feed([i])
    return tok.decode(out)


def value(s, i):
    if s.startswith('<|"|>', i):
        e = s.index('<|"|>', i + 5)
        return s[i + 5:e], e + 5
    m = re.compile(r"[^,}\]]*").match(s, i)
    return json.loads(m.group()), m.end()


def parse(text, thought_open):
    """-> reasoning, content, tool calls (well-formed output only; anything else shows up as wrong content)"""
    if thought_open:
        text = "<|channel>thought\n" + text
    reasoning = "".join(re.findall(r"<\|channel>thought\n(.*?)<channel\|>", text, re.S)).strip()
    text = re.sub(r"<\|channel>.*?<channel\|>", "", text, flags=re.S)
    calls = []
    for name, body in re.findall(r"<\|tool_call>call:(\w+)\{(.*?)\}<tool_call\|>", text, re.S):
        a, i = {}, 0
        try:
            while i < len(body):
                k = body[i:body.index(":", i)]
                a[k], i = value(body, i + len(k) + 1)
                i += 1
        except ValueError:
            a = {"?": body}
        calls.append({"name": name, "arguments": a})
    return reasoning, re.sub(r"<\|tool_call>.*?<tool_call\|>", "", text, flags=re.S).strip(), calls


def norm(calls):
    sq = lambda v: re.sub(r"\s", "", v) if isinstance(v, str) else v
    return sorted(json.dumps([c["name"], {k: sq(v) for k, v in c["arguments"].items()}], sort_keys=True) for c in calls)


def judge(e, reasoning, content, calls):
    """the expectation grammar, see README"""
    ok = norm(e.get("tool_calls", [])) == norm(calls)
    ok &= all(t.lower() in content.lower() for t in e.get("contains", []))
    if "equals_number" in e:
        n = re.findall(r"-?\d+(?:\.\d+)?", content)
        ok &= bool(n) and float(n[-1]) == e["equals_number"]
    if "json" in e:
        try:
            ok &= json.loads(content) == e["json"]
        except ValueError:
            ok = False
    if e.get("thinking"):
        ok &= reasoning != ""
    if e.get("not_thinking"):
        ok &= reasoning == ""
    return ok


def ask(url, c):
    """one case through the HTTP interface -> reasoning, content, tool calls"""
    body = {"model": "", "messages": c["messages"], "temperature": 0, "max_tokens": 200, "chat_template_kwargs": {"enable_thinking": c["enable_thinking"]}}
    if c["tools"]:
        body["tools"] = c["tools"]
    with urllib.request.urlopen(url.rstrip("/") + "/v1/models") as f:
        body["model"] = json.load(f)["data"][0]["id"]
    q = urllib.request.Request(url.rstrip("/") + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(q) as f:
        m = json.load(f)["choices"][0]["message"]
    calls = [{"name": t["function"]["name"], "arguments": json.loads(t["function"]["arguments"])} for t in m.get("tool_calls") or []]
    return m.get("reasoning_content") or m.get("reasoning") or "", (m.get("content") or "").strip(), calls


def heldback(m, tok, verbose, url=None):
    good, total, bad = Counter(), Counter(), []
    for c in json.load(open(HELDBACK))["cases"]:
        if url:
            r, text, calls = out = ask(url, c)
        else:
            p = "".join(t for t, _ in render(c["messages"], c["tools"], c["enable_thinking"]))
            out = generate(m, tok, p)
            r, text, calls = parse(out, p.endswith("<|channel>thought\n"))
        ok = judge(c["expect"], r, text, calls)
        total[c["category"]] += 1
        good[c["category"]] += ok
        if not ok:
            bad.append(c["id"])
        if verbose or not ok:
            print("ok " if ok else "BAD", c["id"], repr(c["messages"][-1]["content"] if c["messages"][-1]["role"] == "user" else "(after tool)"), "->", repr(out))
    for k in total:
        print(f"{k:11} {good[k]:3} / {total[k]}")
    print(f"all         {sum(good.values()):3} / {sum(total.values())} = {sum(good.values()) / sum(total.values()):.1%}")


def dev(m, tok, n, seed, verbose):
    """fresh conversations from the training generator: every model turn must be produced exactly"""
    from data import Gen, Held, Reject
    g, good, total = Gen(seed, Held()), Counter(), Counter()
    while sum(total.values()) < n:
        try:
            msgs, tools, th = g.doc()
        except Reject:
            continue
        cut = max(i for i, x in enumerate(msgs) if x["role"] == "assistant")
        if msgs[cut - 1]["role"] == "tool" and g.r.random() < 0.5:
            cut = max(i for i, x in enumerate(msgs) if x.get("tool_calls"))
        want = msgs[cut]
        for x in msgs:
            x.pop("_quiet", None)
        p = "".join(t for t, _ in render(msgs[:cut], tools, th))
        r, text, calls = parse(generate(m, tok, p, 200), p.endswith("<|channel>thought\n"))
        wc = [{"name": c["function"]["name"], "arguments": c["function"]["arguments"]} for c in want.get("tool_calls", [])]
        ok = text == (want["content"] or "") and norm(calls) == norm(wc) and bool(r) == th
        kind = "call" if wc else "after tool" if msgs[cut - 1]["role"] == "tool" else "json" if (want["content"] or "").startswith("{") else "math" if " = " in want["content"] else "capital" if "capital of" in want["content"] else "other" if "only a tiny" in want["content"] else "greet"
        kind += " +think" if th else ""
        total[kind] += 1
        good[kind] += ok
        if not ok and verbose:
            print("BAD", kind, repr(msgs[cut - 1]["content"]), "->", repr(r), repr(text), calls, "want", repr(want["content"]), wc)
    for k in sorted(total):
        print(f"{k:18} {good[k]:3} / {total[k]}")
    print(f"dev all {sum(good.values()) / n:.1%}")


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("file", nargs="?", default=GGUF_PATH)
    a.add_argument("--int8", action="store_true")
    a.add_argument("--dev", type=int, default=0)
    a.add_argument("--seed", type=int, default=990)
    a.add_argument("--server")
    a.add_argument("--verbose", action="store_true")
    a = a.parse_args()
    torch.set_num_threads(1)
    if a.server:
        raise SystemExit(heldback(None, None, a.verbose, a.server))
    m, tok = load(a.file)
    m.int8 = a.int8
    dev(m, tok, a.dev, a.seed, a.verbose) if a.dev else heldback(m, tok, a.verbose)
