"""Trains the 1,024-piece vocabulary (gemma4-type BPE) on generated conversations and writes tokenizer.json.

Ids 0..106 are those of real Gemma 4. Whole pieces are learnt for lower-case words and a few capitalised sentence
starters only, and no merge joins a space with a capital letter, so a name is cut the same way after a space, a quote
or a line break - which is what makes copying unknown names learnable. Digits stay single.
"""
import re
import sys
from collections import Counter

import common as C
from data import ABOUT, FALLBACK, Gen, Held, Reject

SIZE = 1024
STARTERS = set("What Which Who Where When Why How Is Are Do Does Can Could Would Will Should The Tell Give Show Name Write Make Please Hello Hi Hey Good Thanks Thank Weather Compute Calculate Add Subtract Return Get Capital Create Explain You My Your Goodbye Start Hugging Face Gemma File Answer".split())


def main():
    g = Gen(7, Held())
    words = Counter()
    n = 0
    while n < 12000:
        try:
            msgs, tools, th = g.doc()
        except Reject:
            continue
        n += 1
        for t, _ in C.render(msgs, tools, th, generate=False):
            for part in re.split(r"<[|\"a-z_]+>", t.replace(" ", "▁")):
                for w in re.findall("▁?[a-z]+|[A-Z][a-z]*", part):
                    words[w] += 1
    for w in re.findall("▁?[a-z]+|[A-Z][a-z]*", (ABOUT + FALLBACK).replace(" ", "▁")):
        words[w] += 50
    # a word made of random letters occurs once or twice: leave those out, they would only teach noise
    words = {w: c for w, c in words.items() if c >= 12 and (w.islower() or w[0] == "▁" or w in STARTERS)}

    chars = [chr(c) for c in range(33, 127)] + ["▁"] + list("éüöäñãøç°ßè–…’€")
    tokens = [C.CONTROL.get(i, f"<unused{i}>") for i in range(107)]
    tokens += ["\n" * k for k in range(1, 5)] + ["▁" * k for k in range(2, 5)]
    tokens += [f"<0x{b:02X}>" for b in range(256)] + chars
    merges = []
    for ch, top in (("\n", 4), ("▁", 4)):
        for total in range(2, top + 1):
            merges += [f"{ch * a} {ch * (total - a)}" for a in range(1, total)]
    for p in ('{ "', '" :', '": "', '" ,', '", "', '" }', "▁ +", "▁ -", "▁ =", '▁ "', "▁ *", "▁ /"):
        a, b = p.split(" ")
        merges.append(p)
        if a + b not in tokens:
            tokens.append(a + b)
    room = SIZE - len(C.MEDIA) - len(tokens)
    seqs = {w: list(w) for w in words}
    for _ in range(room):
        pairs = Counter()
        for w, s in seqs.items():
            for p in zip(s, s[1:]):
                pairs[p] += words[w]
        (a, b), c = max(pairs.items(), key=lambda x: (x[1], x[0]))
        merges.append(f"{a} {b}")
        tokens.append(a + b)
        for w, s in seqs.items():
            if a in s:
                o, i = [], 0
                while i < len(s):
                    if s[i:i + 2] == [a, b]:
                        o.append(a + b)
                        i += 2
                    else:
                        o.append(s[i])
                        i += 1
                seqs[w] = o
    tokens += C.MEDIA
    assert len(tokens) == SIZE == len(set(tokens)), (len(tokens), len(set(tokens)))
    tok = C.Tokenizer(tokens, merges)
    tok.save(C.HERE + "/tokenizer.json")
    # the cached chunk encoder must equal the plain rule on whole texts, and text must survive the round trip
    n = chars_ = toks = 0
    while n < 1500:
        try:
            msgs, tools, th = g.doc()
        except Reject:
            continue
        n += 1
        segs = C.render(msgs, tools, th)
        s = "".join(t for t, _ in segs)
        ids = tok.encode(s)
        assert ids == tok.encode(s, fast=False), s
        assert ids == [i for t, _ in segs for i in tok.encode(t)], s
        assert tok.decode(ids) == s
        chars_ += len(s)
        toks += len(ids)
    print(f"{len(merges)} merges, last piece count {c}, {chars_ / toks:.2f} characters per token, {toks / n:.0f} tokens per conversation")
    print(" ".join(tok.tokens[490:]))


if __name__ == "__main__":
    main()
