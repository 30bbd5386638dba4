"""Makes the training conversations and proves that they share nothing with heldback.json.

Forbidden in training: every held-back operand pair (in either order, in any message), every held-back name,
every held-back phrasing (user text or tool description, compared after replacing names and numbers).
Usage: data.py SEED COUNT OUT.npz      (also imported by the other scripts)
"""
import json
import random
import re
import sys

import numpy as np

import phrases as P
from common import HELDBACK, Tokenizer, render

FALLBACK = ("I am only a tiny demo model, so I can't help with that. Start the server with --model and a Gemma 4 "
            "checkpoint (GGUF file or Hugging Face folder) for real answers.")
ABOUT = ("I am a tiny demo model with the Gemma 4 architecture. I can greet you, name capitals, add and subtract small "
         "numbers, call tools and write small JSON objects.")
REV = {v: k for k, v in P.COUNTRIES.items()}


# ---------------------------------------------------------------- held-back list
def skeleton(text, slots=()):
    """phrasing of a text: names -> n, numbers -> #, lower case, letters only"""
    for s in sorted((s for s in map(str, slots) if not s.isdigit()), key=len, reverse=True):
        text = re.sub(r"(?<!\w)" + re.escape(s) + r"(?!\w)", " n ", text)
    for s in list(P.COUNTRIES) + list(REV):
        text = re.sub(r"(?<!\w)" + s + r"(?!\w)", " n ", text, flags=re.I)
    text = re.sub(r"\d+", " # ", text.lower())
    return " ".join(re.findall(r"[a-z]+|#|[+\-*/=]", text))


class Held:
    def __init__(self, path=HELDBACK):
        d = json.load(open(path))
        self.pairs = {tuple(sorted(p)) for p in d["pairs"]}
        self.names = {n.lower() for n in d["names"]}
        self.phr = set()
        for c in d["cases"]:
            for m in c["messages"]:
                if m["role"] in ("user", "system"):
                    self.phr.add(skeleton(m["content"], list(c.get("slots", ())) + d["names"]))
            for t in c.get("tools") or []:
                f = t["function"]
                for s in [f["description"]] + [p.get("description", "") for p in f["parameters"]["properties"].values()]:
                    self.phr.add(skeleton(s))
        # bare forms that any list of this kind must contain anyway carry no phrasing
        self.phr -= {"", "n", "#", "# + #", "# - #"}
        self.name_re = re.compile(r"(?<![A-Za-z])(" + "|".join(map(re.escape, sorted(self.names))) + r")(?![A-Za-z])", re.I)

    def bad_numbers(self, text):
        """neighbouring numbers that form a held-back pair, unless an equals sign stands between them"""
        n = list(re.finditer(r"\d+", text))
        return any(tuple(sorted((int(x.group()), int(y.group())))) in self.pairs and "=" not in text[x.end():y.start()] for x, y in zip(n, n[1:]))

    def bad(self, text, slots=()):
        return bool(self.name_re.search(text)) or self.bad_numbers(text) or skeleton(text, slots) in self.phr


class Reject(Exception):
    pass


# ---------------------------------------------------------------- generator
class Gen:
    def __init__(self, seed, held):
        self.r = random.Random(seed)
        self.held = held
        self.people = [x for x in P.PEOPLE if x.lower() not in held.names]
        self.cities = [x for x in P.CITIES + list(REV) if x.lower() not in held.names]

    # -- text
    def expand(self, t):
        while True:
            m = re.search(r"\(([^()]*)\)", t)
            if not m:
                return t
            t = t[:m.start()] + self.r.choice(m.group(1).split("|")) + t[m.end():]

    def phrase(self, templates, vals, pre=0.3, end=0.6, low=0.1, typo=0.04):
        """one phrasing with slots filled; raises Reject if it is held back"""
        r = self.r
        t = core = self.expand(r.choice(templates)).replace("~", "")
        slots = [v for v in vals.values()]
        if self.held and self.held.bad(self.fill(core, vals), slots):
            raise Reject
        if r.random() < pre:
            p = self.expand(P.PRE)
            t = p + (t[0].lower() + t[1:] if p and t[:2] not in ("I ", "I'") and t[0] != "{" and r.random() < 0.7 else t)
        if r.random() < end and t[-1:] not in "?!.":
            t += self.expand(P.END)
        if r.random() < typo:
            i = r.randrange(len(t))
            if t[i].isalpha() and t[:i].count("{") == t[:i].count("}"):
                t = t[:i] + r.choice(["", t[i] * 2, r.choice("aeinrst")]) + t[i + 1:]
        t = self.fill(t, vals)
        if r.random() < low:
            t = t.lower()
        if self.held and self.held.bad(t, slots):
            raise Reject
        return t

    @staticmethod
    def fill(t, vals):
        return re.sub(r"\{(\w+)\}", lambda m: str(vals[m.group(1)]) if m.group(1) in vals else m.group(0), t)

    def name(self, real=0.35, pool=None, two=0.0):
        r = self.r
        while True:
            if r.random() < real:
                n = r.choice(pool or self.people)
            else:
                k = r.random()
                if k < 0.75:
                    n = "".join(r.choice("b c d f g h j k l m n p r s t v w z br ch st th kr tr gr sh qu x y".split() + [""])
                                + r.choice("a e i o u a e i o ai ei ou ee y".split()) + r.choice(["", "", "n", "r", "l", "s", "m", "t", "k", "d", "x", "nd", "rt", "ng", "ll", "st"])
                                for _ in range(r.choice([1, 1, 2, 2, 2, 3])))
                    n += r.choice(["", "", "", "", "a", "o", "burg", "ville", "ton", "ford", "dam", "grad", "ia", "berg", "field", "mouth", "heim", "stadt", "by", "ham"])
                else:
                    n = "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randint(2, 7)))
                if len(n) < 2:
                    continue
                n = n[0].upper() + n[1:]
                if r.random() < 0.03:
                    i = r.randrange(1, len(n) + 1)
                    n = n[:i] + r.choice("éüöäñãøç") + n[i:]
            if r.random() < two:
                n = r.choice([n + " " + self.name(0), r.choice(["New", "San", "Port", "Saint", "Los", "El", "Bad", "North", "East", "Lake"]) + " " + n])
            if not self.held or not self.held.name_re.search(n):
                return n

    def city(self):
        return self.name(0.3, self.cities, 0.1)

    def country(self):
        c = self.r.choice(list(P.COUNTRIES))
        return c, ("the " + c if c == "Netherlands" and self.r.random() < 0.8 else c)

    def pair(self, op):
        r = self.r
        while True:
            hi = 20 if r.random() < 0.75 else 50
            a, b = r.randint(0, hi), r.randint(0, hi)
            if op == "-" and a < b and r.random() < 0.85:
                a, b = b, a
            if tuple(sorted((a, b))) not in self.held.pairs:
                return a, b

    # -- turns: each returns (user text, [assistant / tool messages])
    def say(self, text, thought):
        return [{"role": "assistant", "reasoning": thought, "content": text}]

    def t_greet(self):
        k = self.r.random()
        g = lambda l, v={}: self.phrase(l, v, pre=0.0, end=0.0)
        if k < 0.24:
            return g(P.GREET), self.say("Hello! How can I help you?", "The user greets me. I greet back.")
        if k < 0.56:
            n = self.name(two=0.06)
            self.user_name = n
            u = self.phrase(P.GREET_NAME, {"N": n, "N2": self.name()}, pre=0, end=0, low=0)
            return u, self.say(f"Hello {n}! How can I help you?", f"The user is called {n}. I greet {n}.")
        if k < 0.72:
            return self.phrase(P.WHO, {}, end=0), self.say(ABOUT, "The user asks what I am. I say it.")
        if k < 0.82:
            return self.phrase(P.HOW, {}, end=0), self.say("I am fine, thank you! How can I help you?", "The user asks how I am.")
        if k < 0.91:
            return g(P.THANKS), self.say("You are welcome!", "The user is thankful.")
        return g(P.BYE), self.say("Goodbye! Have a nice day.", "The user says goodbye.")

    def t_myname(self):
        n = self.user_name
        u = self.phrase(["What('s| is) my name", "Do you (know|remember) my name", "(Who|What) am I called", "What am I called", "(Say|Tell me) my name", "(Who am I|Do you know who I am)"], {}, pre=0.2)
        return u, self.say(f"Your name is {n}.", f"The user is called {n}.")

    def t_capital(self):
        c, cc = self.country()
        if self.r.random() < 0.2:
            p = P.COUNTRIES[c]
            u = self.phrase(P.REVERSE, {"P": p})
            return u, self.say(f"{p} is the capital of {c}.", f"The user asks for the country of {p}. It is {c}.")
        return self.phrase(P.CAPITAL, {"C": cc}), self.say(f"The capital of {c} is {P.COUNTRIES[c]}.", f"The user asks for the capital of {c}. It is {P.COUNTRIES[c]}.")

    def t_capital_next(self):
        c, cc = self.country()
        u = self.phrase(P.CAPITAL_NEXT, {"C": cc}, pre=0)
        return u, self.say(f"The capital of {c} is {P.COUNTRIES[c]}.", f"The user asks for the capital of {c}. It is {P.COUNTRIES[c]}.")

    def eq(self, a, op, b):
        return f"{a} {op} {b} = {a + b if op == '+' else a - b}"

    def steps(self, a, op, b):
        """The way to the result in steps a tiny model can learn (next and previous number, jumps of ten):
        7 + 5 = 8 + 4 = 9 + 3 = 10 + 2 = 11 + 1 = 12. What it practises carries over to pairs it never saw."""
        s = [(a, b)]
        if op == "+":
            if b > a:
                a, b = b, a
                s.append((a, b))
            while b not in (0, 1, 10):
                k = 10 if b > 10 else 1
                a, b = a + k, b - k
                s.append((a, b))
            end = a + b
        else:
            while a > 0 and b not in (0, 1) and a != b and not (b == 10 and a > 10):
                k = 10 if b > 10 and a >= 10 else 1
                a, b = a - k, b - k
                s.append((a, b))
            end = a - b
        if any(tuple(sorted(p)) in self.held.pairs for p in s):
            raise Reject
        return " = ".join(f"{x} {op} {y}" for x, y in s) + f" = {end}"

    def sum_(self, a, op, b, intro):
        """the steps are thought if thinking is on, else part of the answer"""
        st = self.steps(a, op, b)
        self.last = a + b if op == "+" else a - b
        return self.say((self.eq(a, op, b) if self.thinking else st) + ".", intro + st)

    def t_math(self):
        op = self.r.choice("+-")
        a, b = self.pair(op)
        v = {"a": a, "b": b, "T": self.r.choice(P.THINGS), "N": self.name(), "M": self.name()}
        l = P.ADD if op == "+" else P.SUB
        t = self.r.choice(l)
        if t.endswith("~"):
            v["a"], v["b"] = b, a
        u = self.phrase([t], v)
        return u, self.sum_(a, op, b, f"The user wants {a} {op} {b}. ")

    def t_math_next(self):
        op = self.r.choice("+-")
        b = self.r.randint(0, 20)
        a = self.last
        if a < 0 or tuple(sorted((a, b))) in self.held.pairs:
            raise Reject
        u = self.phrase(P.ADD_NEXT if op == "+" else P.SUB_NEXT, {"b": b}, pre=0, low=0)
        return u, self.sum_(a, op, b, f"The last result was {a}. ")

    def t_drill(self, n=None):
        """several sums at once: the cheapest way to practise arithmetic"""
        q = []
        for _ in range(n or self.r.randint(1, 5)):
            op = self.r.choice("+-")
            q.append((*self.pair(op), op))
        sp = self.r.choice(["", " "])
        sep = self.r.choice([", ", "; ", "\n", " and "])
        u = self.r.choice(["", "Compute ", "Solve: ", "What is ", "calculate "]) + sep.join(f"{a}{sp}{o}{sp}{b}" for a, b, o in q) + self.r.choice(["", "?", "=?"])
        return u, self.say(", ".join(self.steps(a, o, b) for a, b, o in q) + ".", None)

    def value(self, k=None):
        r = self.r
        if k in ("age", "year", "price", "size", "level", "score", "day", "weight", "height", "number", "rank", "code", "floor", "speed", "total", "id", "grade", "count"):
            return r.choice([r.randint(1, 99), r.randint(1, 9999), r.randint(1, 99), round(r.uniform(0, 99), 1)])
        if k in ("color", "colour"):
            return r.choice(P.COLORS)
        if k in ("name", "city", "author", "user", "model", "country", "brand", "street") or r.random() < 0.4:
            return self.name(two=0.05)
        return r.choice([r.choice(P.WORDS), r.choice(P.WORDS), r.choice(P.WORDVALS), r.choice(P.COLORS), r.randint(0, 500), self.name().lower()])

    def t_json(self):
        r = self.r
        n = r.choice([1, 2, 2, 2, 2, 3, 3])
        keys = r.sample(P.KEYS, n)
        if r.random() < 0.4:
            keys[0] = "name"
        if r.random() < 0.25:
            keys[-1] = r.choice(["age", "city", "color"])
        if r.random() < 0.15:
            i = r.randrange(n)
            keys[i] = self.name(0).lower()
        if len(set(keys)) < n:
            raise Reject
        vals = [self.value(k) for k in keys]
        jn = lambda x, a=" and ": (", ".join(x[:-1]) + a + x[-1]) if len(x) > 1 else x[0]
        K = jn(keys, r.choice([" and ", " and ", ", "]))
        V = jn([str(v) for v in vals], r.choice([", ", ", ", " and "]))
        st = r.choice(["{k} {v}", "{k} {v}", "{k} is {v}", "{k}={v}", "{k}: {v}", "{k} = {v}", "the {k} {v}", "{k} set to {v}"])
        if r.random() < 0.05:
            st = '"{k}": "{v}"'
        KV = jn([st.format(k=k, v=v) for k, v in zip(keys, vals)], r.choice([" and ", ", "]))
        v = {"KEYS": K, "VALS": V, "KV": KV}
        u = self.phrase(P.JSONQ, v, low=0, typo=0.01)
        if self.held.bad(u, keys + [str(x) for x in vals]):
            raise Reject
        return u, self.say(json.dumps(dict(zip(keys, vals)), separators=(",", ":"), ensure_ascii=False), f"The user wants JSON with {jn(keys)}.")

    def t_other(self, weather_ok=True):
        r = self.r
        k = r.random()
        if k < 0.52:
            t = self.expand(r.choice(P.OOD))
            t = re.sub(r"\{t\}", lambda m: r.choice(P.TOPICS) if r.random() < 0.85 else self.gibberish(), t)
            u = self.phrase([t.replace("(", "").replace(")", "")], {})
        elif k < 0.94:
            l = P.OODNEAR
            t = r.choice(l)
            if not weather_ok and re.search("(?i)weather|rain|warm|<|times|divid|\\{a\\}", t):
                raise Reject
            v = {"C": self.country()[1], "P": self.city(), "Z": self.name(0.2, "Cuba Ghana Laos Nepal Tonga Mordor Texas Bavaria Mars Narnia Europe Africa Qatar Yemen Malta".split()), "N": self.name(), "a": r.randint(0, 100), "b": r.randint(0, 100),
                 "L": r.choice([str(r.randint(100, 9999)), "x", "y", "pi"])}
            u = self.phrase([t], v)
        else:
            u = self.gibberish(r.randint(1, 8)) + r.choice(["", "?", ".", "!"])
            if self.held.bad(u):
                raise Reject
        return u, self.say(FALLBACK, "This is more than a tiny demo model can do.")

    def gibberish(self, n=1):
        r = self.r
        w = lambda: r.choice([self.name(0).lower(), self.name(0).lower(), self.name(0), r.choice(P.TOPICS), r.choice(P.WORDVALS), r.choice("the a of my your is are for with very some this that most how why when who".split())])
        return " ".join(w() for _ in range(n))

    # -- tools
    def desc(self, l):
        d = self.expand(self.r.choice(l)).replace("{W}", self.name())
        if skeleton(d) in self.held.phr:
            raise Reject
        return d

    def fn(self, name, desc, props, req):
        return {"type": "function", "function": {"name": name, "description": desc, "parameters": {"type": "object", "properties": props, "required": req}}}

    def weather_tool(self):
        r = self.r
        self.ckey = "city" if r.random() < 0.85 else r.choice(["location", "place", "town", "city_name"])
        p = {"type": "string"}
        if d := self.desc(P.CITYD):
            p["description"] = d
        props = {self.ckey: p}
        self.unit = r.random() < 0.25
        if self.unit:
            props["unit"] = {"type": "string"}
            if r.random() < 0.7:
                props["unit"]["enum"] = ["celsius", "fahrenheit"]
            if r.random() < 0.4:
                props["unit"]["description"] = self.desc(["Temperature unit(.|)", "The unit(.|)", "celsius or fahrenheit", "Unit of the temperature(.|)"])
        if r.random() < 0.1:
            props[r.choice(["days", "detail", "language", "date"])] = {"type": r.choice(["integer", "string", "boolean"])}
        return self.fn("get_weather", self.desc(P.WTOOL), props, [self.ckey])

    def calc_tool(self):
        r = self.r
        p = {"type": "string"}
        if d := self.desc(P.EXPRD):
            p["description"] = d
        props = {"expression": p}
        if r.random() < 0.12:
            props[r.choice(["precision", "digits", "mode"])] = {"type": r.choice(["integer", "string"])}
        return self.fn("calculate", self.desc(P.CTOOL), props, ["expression"])

    def other_tool(self):
        n, d, ps = self.r.choice(P.OTHER_TOOLS)
        props = {}
        for k, v in ps.items():
            props[k] = {"type": "integer" if v[:1] == "#" else "string"}
            if v.strip("#") and self.r.random() < 0.5:
                props[k]["description"] = v.strip("#")
        return self.fn(n, self.desc([d]), props, list(ps)[:self.r.randint(1, len(ps))])

    def calls(self, fs):
        self.cid += 1
        return [{"id": f"c{self.cid}_{i}", "type": "function", "function": {"name": n, "arguments": a}} for i, (n, a) in enumerate(fs)]

    def result(self):
        """(what the tool returned, how the answer says it)"""
        r = self.r
        if r.random() < 0.6:
            ks = [("temperature", r.randint(-20, 42)), ("condition", r.choice(P.CONDS))]
            extra = [("humidity", r.randint(5, 100)), ("wind", r.choice([r.randint(0, 90), f"{r.randint(0, 90)} km/h"])), ("unit", r.choice(["celsius", "fahrenheit", "C"])), ("temp", r.randint(-20, 42)), ("temp_c", round(r.uniform(-20, 40), 1)), ("rain", r.choice(["0 mm", "5 mm", "20%"])), ("forecast", r.choice(P.CONDS)), ("summary", r.choice(P.CONDS)), ("sky", r.choice(P.CONDS)), ("degrees", r.randint(-20, 42)), ("description", r.choice(P.CONDS)), ("feels_like", r.randint(-20, 42)), ("wind_speed", r.randint(0, 60)), (self.name(0).lower(), r.randint(0, 99)), ("uv", r.randint(0, 11)), ("weather", r.choice(P.CONDS))]
            r.shuffle(extra)
            if r.random() < 0.3:
                ks[0] = extra.pop()
            if r.random() < 0.3:
                ks[1] = extra.pop()
            ks = (ks + extra)[:r.choice([1, 2, 2, 2, 3, 3, 4])]
            d = dict(ks)
            if r.random() < 0.2:
                r.shuffle(ks)
                d = dict(ks)
            s = json.dumps(d) if r.random() < 0.7 else json.dumps(d, separators=(",", ":"))
            return s, ", ".join(f"{k} {v}" for k, v in d.items())
        t = r.randint(-20, 42)
        s = r.choice([f"{t}°C, {r.choice(P.CONDS)}", f"{t} C and {r.choice(P.CONDS)}", f"{r.choice(P.CONDS)}, {t} degrees", f"{r.choice(P.CONDS)}", f"{t}°C", f"{t}°F, {r.choice(P.CONDS)}, wind {r.randint(0, 80)} km/h", f"{r.choice(P.CONDS)} and {r.choice(P.CONDS)}, {t}°C", f"{r.choice(P.CONDS)} with {t} degrees", f"{t} degrees", "no data", "city not found", f"{r.choice(P.CONDS).capitalize()}, {t}°C", self.gibberish(r.randint(1, 4))])
        return s, s

    def t_weather(self, nxt=False):
        r = self.r
        n = 2 if not nxt and r.random() < 0.2 else 1
        cs = [self.city() for _ in range(n)]
        v = {"P": cs[0], "R": cs[-1]}
        args = [{self.ckey: c} for c in cs]
        u = self.phrase(P.WEATHER_NEXT if nxt else P.WEATHER2 if n == 2 else P.WEATHER, v, pre=0 if nxt else 0.3, low=0, typo=0.02)
        if self.unit and r.random() < 0.35:
            un = r.choice(["celsius", "fahrenheit"])
            u = u.rstrip("?.! ") + r.choice([f" in {un}", f", in {un}", f" ({un})", f", unit {un}", f". Use {un}"]) + r.choice(["", "?", "."])
            for a in args:
                a["unit"] = un
            if self.held.bad(u, cs):
                raise Reject
        calls = self.calls([("get_weather", a) for a in args])
        rs = [self.result() for _ in cs]
        where = " and ".join(cs)
        msgs = [{"role": "assistant", "reasoning": f"I need the weather in {where}, so I call get_weather.", "content": None, "tool_calls": calls}]
        msgs += [{"role": "tool", "tool_call_id": c["id"], "content": x[0]} for c, x in zip(calls, rs)]
        msgs += self.say(" ".join(f"The weather in {c}: {x[1].rstrip('.')}." for c, x in zip(cs, rs)), f"The tool gave the weather in {where}. I report it.")
        return u, msgs

    def expression(self):
        """(as the user writes it, as the call has it)"""
        r = self.r
        num = lambda: str(r.choice([r.randint(0, 20), r.randint(0, 20), r.randint(0, 100), r.randint(0, 9999), round(r.uniform(0, 50), 1)]))
        k = r.random()
        a, b, c = num(), num(), num()
        if k < 0.4:
            w, o = r.choice([("plus", "+"), ("minus", "-"), ("times", "*"), ("multiplied by", "*"), ("divided by", "/"), ("over", "/")])
            return f"{a} {w} {b}", f"{a} {o} {b}"
        o, o2 = r.choice("+-*/"), r.choice("+-*/")
        s = r.choice(["", " "])
        e = f"{a}{s}{o}{s}{b}" if k < 0.72 else r.choice([f"{a}{s}{o}{s}{b}{s}{o2}{s}{c}", f"({a}{s}{o}{s}{b}){s}{o2}{s}{c}", f"{a}{s}{o}{s}({b}{s}{o2}{s}{c})"])
        return e, e

    def t_calc(self):
        r = self.r
        if r.random() < 0.3:                                       # the phrasings of sums, now answered by the tool
            op = r.choice("+-")
            a, b = self.pair(op)
            v = {"a": a, "b": b, "T": r.choice(P.THINGS), "N": self.name(), "M": self.name()}
            t = r.choice(P.ADD if op == "+" else P.SUB)
            if t.endswith("~"):
                v["a"], v["b"] = b, a
            u, e = self.phrase([t], v), f"{a} {op} {b}"
            if (f"{a}{op}{b}") in u:
                e = f"{a}{op}{b}"
        else:
            x, e = self.expression()
            u = self.phrase(P.CALC, {"X": x}, typo=0.02)
        calls = self.calls([("calculate", {"expression": e})])
        num = str(r.choice([r.randint(-50, 200), r.randint(0, 40), r.randint(0, 99999), round(r.uniform(-10, 1000), r.randint(1, 3))]))
        res = r.choice([num, num, num, '{"result": %s}' % num, '{"result":%s}' % num, '{"value": %s}' % num, "= " + num, "Result: " + num, e + " = " + num])
        msgs = [{"role": "assistant", "reasoning": f"I call calculate with {e}.", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": calls[0]["id"], "content": res}]
        return u, msgs + self.say(f"The result is {num}.", f"The tool gave {num}.")

    # -- conversations
    def system(self):
        r = self.r
        s = " ".join(self.expand(r.choice(P.SYSTEMS)) for _ in range(r.choice([1, 1, 1, 2, 3])))
        if skeleton(s) in self.held.phr:
            raise Reject
        return s

    def retry(self, f, *a):
        for _ in range(200):
            try:
                return f(*a)
            except Reject:
                pass
        raise Reject

    def doc(self):
        r = self.r
        self.cid, self.user_name, self.last = 0, None, None
        self.thinking = thinking = r.random() < 0.3
        tools, turns = [], r.choice([1, 1, 1, 2, 2, 3, 4])
        k = r.random()
        if k < 0.12:                                               # pure arithmetic practice
            u, a = self.retry(self.t_drill)
            return [{"role": "user", "content": u}] + a, None, False
        has_w = has_c = False
        if k < 0.45:
            m = r.random()
            has_w, has_c = m < 0.7, m > 0.48 and m < 0.95
            if has_w:
                tools.append(self.retry(self.weather_tool))
            if has_c:
                tools.append(self.retry(self.calc_tool))
            for _ in range(r.choice([0, 0, 0, 0, 1, 1, 2]) if tools else r.randint(1, 2)):
                t = self.retry(self.other_tool)
                if t["function"]["name"] not in [x["function"]["name"] for x in tools]:
                    tools.append(t)
            r.shuffle(tools)
            turns = r.choice([1, 1, 2, 3, 4])
        msgs, prev = [], None
        if r.random() < (0.2 if tools else 0.25):
            msgs.append({"role": "system", "content": self.retry(self.system)})
        for _ in range(turns):
            kinds = [("greet", 20), ("capital", 23), ("math", 0 if has_c else 22), ("json", 22), ("other", 24)]
            if has_w or has_c:
                kinds = [(a, b * 0.45) for a, b in kinds] + [("weather", 40 if has_w else 0), ("calc", 32 if has_c else 0)]
            kind = r.choices([a for a, _ in kinds], [b for _, b in kinds])[0]
            if prev == "capital" and r.random() < 0.35:
                u, a = self.retry(self.t_capital_next)
                kind = prev
            elif prev == "weather" and r.random() < 0.3:
                u, a = self.retry(self.t_weather, True)
                kind = prev
            elif prev == "math" and r.random() < 0.25 and self.last >= 0:
                try:
                    u, a = self.retry(self.t_math_next)
                    kind = prev
                except Reject:
                    continue
            elif self.user_name and r.random() < 0.2:
                u, a = self.retry(self.t_myname)
                kind = "name"
            elif kind == "other":
                u, a = self.retry(self.t_other, not (has_w or has_c))
            else:
                u, a = self.retry(getattr(self, "t_" + kind))
            msgs.append({"role": "user", "content": u})
            msgs += a
            prev = kind
        if prev is None:
            raise Reject
        if not thinking:
            for m in msgs:
                m.pop("reasoning", None)
        elif tools and r.random() < 0.4:                           # clients often do not send the thought of a call back
            for m in msgs:
                if m.get("tool_calls"):
                    m["_quiet"] = True
        return msgs, tools or None, thinking

    def encoded(self, tok):
        """-> (ids, loss mask) of one conversation"""
        while True:
            try:
                msgs, tools, thinking = self.doc()
            except Reject:
                continue
            r = self.r
            if any(m.pop("_quiet", False) for m in msgs):
                # train the answer after the result, with the earlier thought absent from the prompt
                for m in msgs:
                    if m.get("tool_calls"):
                        m.pop("reasoning", None)
                quiet = True
            else:
                quiet = False
            segs = render(msgs, tools, thinking, generate=False)
            if any(self.held.name_re.search(t) or self.held.bad_numbers(t) for t, _ in segs):
                continue
            if any(m["role"] == "user" and skeleton(m["content"]) in self.held.phr for m in msgs):
                continue
            if thinking:                                           # earlier turns are shown without their thoughts
                last = max(i for i, (t, _) in enumerate(segs) if t == "<|turn>user\n")
                segs = [(t, f if i > last and not (quiet and "<|tool_call>" in t) and not (quiet and t == "<|tool_response>") else 0) for i, (t, f) in enumerate(segs)]
            ids, mask = [], []
            for t, f in segs:
                e = tok.encode(t)
                if f and t == FALLBACK and r.random() < 0.6 and t is segs[-3][0]:
                    e = e[:10]                                     # the rest of this sentence needs little practice
                    ids += e
                    mask += [f] * len(e)
                    break
                ids += e
                mask += [f] * len(e)
            if len(ids) <= 420:
                return ids, mask


def make(seed, count, tok):
    g = Gen(seed, Held())
    ids, mask, off = [], [], [0]
    for _ in range(count):
        a, b = g.encoded(tok)
        ids += a
        mask += b
        off.append(len(ids))
    return np.array(ids, np.int16), np.array(mask, np.int8), np.array(off, np.int64)


def check(ids, off, tok, held):
    """the proof: no held-back pair, name or phrasing in the finished training text"""
    names = 0
    for i in range(len(off) - 1):
        t = tok.decode(ids[off[i]:off[i + 1]])
        assert not held.name_re.search(t), t
        for part in re.split(r"<[^<>]*>", t):
            assert not held.bad_numbers(part), t
        for u in re.findall(r"<\|turn>user\n(.*?)<turn\|>", t, re.S):
            assert skeleton(u) not in held.phr, u
        names += 1
    return names


if __name__ == "__main__":
    tok, held = Tokenizer.load(), Held()
    ids, mask, off = make(int(sys.argv[1]), int(sys.argv[2]), tok)
    n = check(ids, off, tok, held)
    np.savez(sys.argv[3], ids=ids, mask=mask, off=off)
    print(f"{n} conversations, {len(ids)} tokens, {mask.sum()} with loss; shares nothing with the held-back list")
