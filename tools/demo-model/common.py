"""Shared by all scripts: prompt renderer, tokenizer, paths."""
import heapq
import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.path.join(HERE, "work")
HELDBACK = os.path.join(HERE, "heldback.json")
GGUF_PATH = os.path.normpath(os.path.join(HERE, "..", "..", "src", "GemmaServer", "Demo", "demo-gemma4.gguf"))

# ---------------------------------------------------------------- control tokens, same ids as real Gemma 4
CONTROL = {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 4: "<mask>", 46: "<|tool>", 47: "<tool|>",
           48: "<|tool_call>", 49: "<tool_call|>", 50: "<|tool_response>", 51: "<tool_response|>", 52: '<|"|>',
           98: "<|think|>", 100: "<|channel>", 101: "<channel|>", 105: "<|turn>", 106: "<turn|>"}
MEDIA = ["<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>"]   # last ids
Q = '<|"|>'


# ---------------------------------------------------------------- renderer (the "small" chat template)
def _arg(v):
    if v is None:
        return "null"
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, str):
        return Q + v + Q
    if isinstance(v, dict):
        return "{" + ",".join(k + ":" + _arg(v[k]) for k in sorted(v, key=str.lower)) + "}"
    if isinstance(v, list):
        return "[" + ",".join(map(_arg, v)) + "]"
    return repr(v)


def _props(p):
    out = []
    for k in sorted(p, key=str.lower):
        v, parts = p[k], []
        if v.get("description"):
            parts.append("description:" + Q + v["description"] + Q)
        if v["type"].upper() == "STRING" and v.get("enum"):
            parts.append("enum:" + _arg(v["enum"]))
        assert v["type"] in ("string", "integer", "number", "boolean"), "nested schemas are not needed here"
        parts.append("type:" + Q + v["type"].upper() + Q)
        out.append(k + ":{" + ",".join(parts) + "}")
    return ",".join(out)


def _declaration(tool):
    f = tool["function"]
    s = "declaration:" + f["name"] + "{description:" + Q + f.get("description", "") + Q
    p = f.get("parameters")
    if p:
        s += ",parameters:{"
        if p.get("properties"):
            s += "properties:{" + _props(p["properties"]) + "},"
        if p.get("required"):
            s += "required:[" + ",".join(Q + r + Q for r in p["required"]) + "],"
        s += "type:" + Q + p["type"].upper() + Q + "}"
    return s + "}"


def strip_thinking(t):
    return "".join(p.split("<|channel>")[0] for p in t.split("<channel|>")).strip()


def render(messages, tools=None, thinking=False, generate=True):
    """-> [(text, is_model_output)]; joined text equals the template's output byte for byte."""
    out = [("<bos>", 0)]
    msgs = messages
    if thinking or tools or (msgs and msgs[0]["role"] in ("system", "developer")):
        s = "<|turn>system\n"
        if thinking:
            s += "<|think|>\n"
        if msgs and msgs[0]["role"] in ("system", "developer"):
            s += msgs[0]["content"].strip()
            msgs = msgs[1:]
        for t in tools or []:
            s += "<|tool>" + _declaration(t).strip() + "<tool|>"
        out.append((s + "<turn|>\n", 0))
    last_user = max([i for i, m in enumerate(msgs) if m["role"] == "user"], default=-1)
    prev_role, state = None, None
    for i, m in enumerate(msgs):
        if m["role"] == "tool":
            continue
        role = "model" if m["role"] == "assistant" else m["role"]
        own = int(role == "model")
        state = None
        if not (own and prev_role == "assistant"):
            out.append(("<|turn>" + role + "\n", 0))
        r = m.get("reasoning") or m.get("reasoning_content")
        if r and i > last_user:
            out.append(("<|channel>thought\n", int(prev_role != "assistant")))
            out.append((r + "\n<channel|>", 1))
        calls, answered = m.get("tool_calls") or [], False
        for c in calls:
            f = c["function"]
            a = f["arguments"]
            a = json.loads(a) if isinstance(a, str) else a or {}
            out.append(("<|tool_call>call:" + f["name"] + _arg(a) + "<tool_call|>", own))
            state = "call"
        if calls:
            for k in range(i + 1, len(msgs)):
                if msgs[k]["role"] != "tool":
                    break
                name = msgs[k].get("name") or "unknown"
                for c in calls:
                    if c.get("id") == msgs[k].get("tool_call_id"):
                        name = c["function"]["name"]
                out.append(("<|tool_response>", int(own and not answered)))
                out.append(("response:" + name + "{value:" + _arg(msgs[k].get("content")) + "}<tool_response|>", 0))
                answered, state = True, "response"
        text = m.get("content") or ""
        text = strip_thinking(text) if own else text.strip()
        if text:
            out.append((text, own))
        nxt = next((x["role"] for x in msgs[i + 1:] if x["role"] != "tool"), None)
        if state == "call":
            out.append(("<|tool_response>", own))
        elif own and nxt == "assistant" and (not calls or answered):
            pass
        elif not (answered and not text.strip() and nxt is None):
            out.append(("<turn|>", own))
            out.append(("\n", 0))
        prev_role = m["role"]
    if generate:
        if state not in ("response", "call"):
            out.append(("<|turn>model\n", 0))
        elif state == "response" and thinking:
            out.append(("<|channel>thought\n", 0))
    return out


# ---------------------------------------------------------------- tokenizer
class Tokenizer:
    """Gemma-4-style BPE: space -> U+2581, no pre-split, merges by rank (ties leftmost), byte fallback."""

    def __init__(self, tokens, merges):
        self.tokens, self.merges = tokens, merges
        self.id = {t: i for i, t in enumerate(tokens)}
        self.rank = {}
        for r, m in enumerate(merges):
            a, b = m.split(" ", 1) if m[0] != " " else (" ", m[2:])
            self.rank.setdefault((a, b), r)
        self.special = {t: self.id[t] for t in list(CONTROL.values()) + MEDIA}
        self.split = re.compile("(" + "|".join(sorted(map(re.escape, self.special), key=len, reverse=True)) + ")")
        self.cache = {}

    # No exported merge crosses the borders of these chunks (checked by check_chunks), so chunks can be cached.
    CHUNK = re.compile("\n+|▁▁+|▁?[A-Za-z]+|▁?[^A-Za-z0-9▁\n]+|▁|[0-9]")

    def bpe(self, s):
        """the plain rule on a whole string"""
        sym = []
        for ch in s:
            sym += [ch] if ch in self.id else [f"<0x{b:02X}>" for b in ch.encode()]
        n = len(sym)
        nxt, prv = list(range(1, n + 1)), list(range(-1, n - 1))
        heap = [(self.rank[p], i, p) for i in range(n - 1) if (p := (sym[i], sym[i + 1])) in self.rank]
        heapq.heapify(heap)
        while heap:
            _, i, p = heapq.heappop(heap)
            j = nxt[i] if sym[i] is not None else n
            if j >= n or (sym[i], sym[j]) != p:
                continue
            sym[i], sym[j] = p[0] + p[1], None
            nxt[i] = nxt[j]
            if nxt[j] < n:
                prv[nxt[j]] = i
            for a, b in ((prv[i], i), (i, nxt[i])):
                if a >= 0 and b < n and (sym[a], sym[b]) in self.rank:
                    heapq.heappush(heap, (self.rank[sym[a], sym[b]], a, (sym[a], sym[b])))
        return [self.id[x] for x in sym if x is not None]

    def plain(self, s):
        s = s.replace(" ", "▁")
        out = []
        for c in self.CHUNK.findall(s):
            ids = self.cache.get(c)
            if ids is None:
                ids = self.cache[c] = self.bpe(c)
            out += ids
        return out

    def encode(self, text, fast=True):
        out = []
        for part in self.split.split(text):
            if part in self.special:
                out.append(self.special[part])
            elif part:
                out += self.plain(part) if fast else self.bpe(part.replace(" ", "▁"))
        return out

    def decode(self, ids, keep_special=True):
        b = b""
        for i in ids:
            t = self.tokens[i]
            if re.fullmatch("<0x[0-9A-F]{2}>", t):
                b += bytes([int(t[3:5], 16)])
            elif t in self.special:
                b += t.encode() if keep_special else b""
            else:
                b += t.replace("▁", " ").encode()
        return b.decode("utf8", "replace")

    def save(self, path):
        json.dump({"tokens": self.tokens, "merges": self.merges}, open(path, "w"), ensure_ascii=False, indent=0)

    @staticmethod
    def load(path=os.path.join(HERE, "tokenizer.json")):
        d = json.load(open(path))
        return Tokenizer(d["tokens"], d["merges"])
