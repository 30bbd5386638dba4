"""Minimal GGUF v3 writer and reader (F32, F16, Q8_0), numpy only."""
import struct

import numpy as np

U32, I32, F32, BOOL, STR, ARR, U64 = 4, 5, 6, 7, 8, 9, 10
T_F32, T_F16, T_Q8_0 = 0, 1, 8
FMT = {0: "B", 1: "b", 2: "H", 3: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", 11: "q", 12: "d"}


def _str(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def _val(t, v):
    if t == STR:
        return _str(v)
    if isinstance(t, tuple):
        return struct.pack("<IQ", t[1], len(v)) + b"".join(_val(t[1], x) for x in v)
    return struct.pack("<" + FMT[t], v)


def q8_0(x):
    b = x.reshape(-1, 32).astype(np.float32)
    d = np.abs(b).max(1, keepdims=True) / 127
    q = np.rint(np.divide(b, d, out=np.zeros_like(b), where=d > 0)).astype(np.int8)
    out = np.empty((len(b), 34), np.uint8)
    out[:, :2] = d.astype(np.float16).view(np.uint8)
    out[:, 2:] = q.view(np.uint8)
    return out.tobytes()


def write(path, meta, tensors):
    """meta: [(key, type, value)]; tensors: [(name, array, ggml type)]"""
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(meta))
    for k, t, v in meta:
        head += _str(k) + struct.pack("<I", ARR if isinstance(t, tuple) else t) + _val(t, v)
    off, blobs = 0, []
    for name, x, t in tensors:
        raw = {T_F32: lambda: x.astype("<f4").tobytes(), T_F16: lambda: x.astype("<f2").tobytes(), T_Q8_0: lambda: q8_0(x)}[t]()
        head += _str(name) + struct.pack("<I", x.ndim) + b"".join(struct.pack("<Q", n) for n in reversed(x.shape)) + struct.pack("<IQ", t, off)
        raw += b"\0" * (-len(raw) % 32)
        off += len(raw)
        blobs.append(raw)
    head += b"\0" * (-len(head) % 32)
    with open(path, "wb") as f:
        f.write(head)
        for b in blobs:
            f.write(b)


def read(path):
    """-> ({key: value}, {name: float32 array}, {name: ggml type})"""
    d = open(path, "rb").read()
    o = 0

    def get(f):
        nonlocal o
        v = struct.unpack_from("<" + f, d, o)[0]
        o += struct.calcsize("<" + f)
        return v

    def text():
        nonlocal o
        n = get("Q")
        o += n
        return d[o - n:o].decode()

    def value(t):
        if t == STR:
            return text()
        if t == ARR:
            e, n = get("I"), get("Q")
            return [value(e) for _ in range(n)]
        return get(FMT[t])

    assert get("I") == 0x46554747 and get("I") == 3
    nt, nk = get("Q"), get("Q")
    meta = {}
    for _ in range(nk):
        k = text()
        meta[k] = value(get("I"))
    info = []
    for _ in range(nt):
        n = text()
        shape = [get("Q") for _ in range(get("I"))][::-1]
        info.append((n, shape, get("I"), get("Q")))
    base = (o + 31) // 32 * 32
    tensors, types = {}, {}
    for n, shape, t, off in info:
        size = int(np.prod(shape))
        p = base + off
        if t == T_F32:
            x = np.frombuffer(d, "<f4", size, p)
        elif t == T_F16:
            x = np.frombuffer(d, "<f2", size, p).astype(np.float32)
        else:
            b = np.frombuffer(d, np.uint8, size // 32 * 34, p).reshape(-1, 34)
            x = b[:, 2:].view(np.int8).astype(np.float32) * b[:, :2].copy().view(np.float16).astype(np.float32)
        tensors[n] = x.reshape(shape).copy()
        types[n] = t
    return meta, tensors, types
