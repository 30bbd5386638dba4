"""Trains the demo model on one or more generated data files.

train.py --minutes 25 --out work/run1 [--init work/run0/last.pt] data1.npz data2.npz ...
Two single-threaded worker processes share the gradients (on two cores that beats one process with two threads).
The schedule follows the clock, so a run ends on time however busy the machine is.
Matrices use Muon (orthogonalised momentum), everything else AdamW. Loss on the model's own tokens only.
"""
import argparse
import os
import sys
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from model import CONFIG, Model


def orthogonal(g, steps=5):
    """Newton-Schulz iteration towards the nearest orthogonal matrix, for a stack of matrices [k, m, n]"""
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    t = x.shape[1] > x.shape[2]
    if t:
        x = x.transpose(1, 2)
    x = x.bfloat16()
    for _ in range(steps):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = x.float()
    return x.transpose(1, 2) if t else x


class Optimizer:
    def __init__(self, model, wd):
        self.wd = wd
        self.mats, self.rest = {}, []
        for n, p in model.params.items():
            if p.dim() == 2 and "token_embd" not in n:
                self.mats.setdefault(tuple(p.shape), []).append(p)
            else:
                self.rest.append(p)
        self.mom = {s: torch.zeros(len(l), *s) for s, l in self.mats.items()}
        self.adam = torch.optim.AdamW([{"params": [p for p in self.rest if p.dim() == 2], "weight_decay": 0.02},
                                       {"params": [p for p in self.rest if p.dim() != 2], "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.98), eps=1e-9)

    def step(self, lr, lr_adam):
        for g in self.adam.param_groups:
            g["lr"] = lr_adam
        self.adam.step()
        with torch.no_grad():
            for s, l in self.mats.items():
                g = torch.stack([p.grad for p in l])
                m = self.mom[s]
                m.mul_(0.95).add_(g, alpha=0.05)
                u = orthogonal(g * 0.05 + m * 0.95) * (0.2 * max(s) ** 0.5)
                for p, d in zip(l, u):
                    p.mul_(1 - lr * self.wd).add_(d, alpha=-lr)


def batches(files, rank, world, seed, budget):
    """endless bucketed batches; worker r takes every world-th one"""
    data = [np.load(f) for f in files]
    data = [(d["ids"], d["mask"], d["off"]) for d in data]
    rng = np.random.default_rng(seed)
    while True:
        docs = [(k, i) for k, d in enumerate(data) for i in range(len(d[2]) - 1)]
        rng.shuffle(docs)
        for c in range(0, len(docs), 3000):
            part = sorted(docs[c:c + 3000], key=lambda x: data[x[0]][2][x[1] + 1] - data[x[0]][2][x[1]])
            out, cur = [], []
            for k, i in part:
                n = int(data[k][2][i + 1] - data[k][2][i])
                if cur and (len(cur) + 1) * n * (1 + n / 600) > budget:      # long rows cost more in attention
                    out.append(cur)
                    cur = []
                cur.append((k, i))
            out.append(cur)
            # neighbours in length go to the workers at the same time, so that none waits for the other
            groups = [out[i:i + world] for i in range(0, len(out) - world + 1, world)]
            rng.shuffle(groups)
            for b in (x[rank] for x in groups):
                n = max(int(data[k][2][i + 1] - data[k][2][i]) for k, i in b)
                ids, mask = np.zeros((len(b), n), np.int64), np.zeros((len(b), n), bool)
                for j, (k, i) in enumerate(b):
                    o, e = data[k][2][i], data[k][2][i + 1]
                    ids[j, :e - o], mask[j, :e - o] = data[k][0][o:e], data[k][1][o:e]
                yield torch.from_numpy(ids), torch.from_numpy(mask)


def worker(rank, world, a):
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{os.path.abspath(a.out)}/rendezvous", rank=rank, world_size=world)
    torch.manual_seed(1)
    model = Model(CONFIG)
    model.bf16 = a.bf16
    if a.init:
        model.load_state_dict(torch.load(a.init))
    params = list(model.parameters())
    opt = Optimizer(model, a.wd)
    flat = torch.zeros(sum(p.numel() for p in params) + 3)
    t0, step, seen, avg = time.time(), 0, 0, None
    log = open(os.path.join(a.out, "log.txt"), "a") if rank == 0 else None
    for ids, mask in batches(a.data, rank, world, a.seed, a.budget):
        rows = torch.nonzero(mask[:, 1:].reshape(-1)).squeeze(1)
        B, T = ids.shape
        rows = rows // (T - 1) * T + rows % (T - 1)                # positions that predict a model token
        target = ids.view(-1)[rows + 1]
        loss = F.cross_entropy(model(ids, rows), target, reduction="sum")
        model.zero_grad(set_to_none=False)
        loss.backward()
        o = 0
        for p in params:
            if p.grad is not None:
                flat[o:o + p.numel()] = p.grad.view(-1)
            o += p.numel()
        flat[o:] = torch.tensor([float(len(rows)), float(loss), float(B * T)])
        if world > 1:
            # the clock of worker 0 decides; everything else is identical in both
            dist.all_reduce(flat)
        n = float(flat[o])
        now = torch.tensor([(time.time() - t0) / (60 * a.minutes)])
        if world > 1:
            dist.broadcast(now, 0)
        prog = float(now)
        g = flat[:o] / n
        g *= min(1.0, 1.0 / (float(g.norm()) + 1e-6))
        o2 = 0
        for p in params:
            p.grad = g[o2:o2 + p.numel()].view(p.shape) if p.grad is None else p.grad.copy_(g[o2:o2 + p.numel()].view(p.shape))
            o2 += p.numel()
        f = min(1.0, (step + 1) / a.warmup) * max(0.02, min(1.0, (1 - prog) / a.decay))
        opt.step(a.lr * f, a.lr_adam * f)
        step += 1
        seen += int(flat[o + 2])
        l = float(flat[o + 1]) / n
        avg = l if avg is None else 0.98 * avg + 0.02 * l
        if rank == 0 and (step % 25 == 0 or prog >= 1):
            log.write(f"{step} {prog:.3f} loss {avg:.4f} tokens {seen} {seen / (time.time() - t0):.0f}/s lr {f:.3f}\n")
            log.flush()
        if rank == 0 and (step % 100 == 0 or prog >= 1):
            torch.save(model.state_dict(), a.out + "/tmp.pt")
            os.replace(a.out + "/tmp.pt", a.out + "/last.pt")
        if prog >= 1:
            break


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("data", nargs="+")
    p.add_argument("--minutes", type=float, required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--init")
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--lr-adam", type=float, default=3e-3)
    p.add_argument("--wd", type=float, default=0.05)
    p.add_argument("--decay", type=float, default=0.7, help="last part of the run in which the rate falls linearly")
    p.add_argument("--warmup", type=int, default=60)
    p.add_argument("--budget", type=int, default=3000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--bf16", action="store_true", help="bfloat16 matrix products")
    p.add_argument("--workers", type=int, default=2)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    try:
        os.remove(a.out + "/rendezvous")
    except FileNotFoundError:
        pass
    mp.spawn(worker, (a.workers, a), nprocs=a.workers) if a.workers > 1 else worker(0, 1, a)
