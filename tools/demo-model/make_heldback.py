"""Writes heldback.json: 200 prompts the model never trains on, with a check for each.

Every operand pair, every person / city name and every phrasing here is banned from training (see data.py).
Written once, before the first training run; do not copy anything from here into phrases.py.
"""
import json

from common import HELDBACK
from data import FALLBACK

PAIRS = [(7, 5), (3, 9), (12, 4), (8, 6), (15, 7), (20, 11), (18, 9), (13, 14), (2, 6), (16, 3), (19, 17), (10, 13), (1, 8),
         (5, 18), (14, 9), (4, 17), (6, 11), (20, 8), (0, 12), (3, 4), (17, 12), (9, 5), (15, 19), (2, 13), (11, 16), (8, 1)]
NAMES = ["Zelda", "Barnaby", "Ottilie", "Quentin", "Mirabel", "Thaddeus", "Yolanda", "Rupert", "Saskia", "Bob", "Dagmar", "Felix",
         "Wanda", "Igor", "Clementine", "Hugo", "Tabitha", "Ulrich", "Xenia", "Norbert", "Philippa", "Ezra", "Gwendolyn", "Jasper",
         "Ulm", "Lyon", "Porto", "Graz", "Kyoto", "Oulu", "Trondheim", "Sapporo", "Winnipeg", "Adelaide", "Lusaka", "Cusco", "Tbilisi",
         "Mainz", "Verona", "Cardiff", "Nashville", "Kazan", "Sarajevo", "Windhoek", "Puebla", "Bath", "Split", "Wellington", "Regina",
         "Zadar", "Limerick", "Varna", "Tartu", "Phoenix", "Hobart", "Cordoba", "San Remo", "Galway"]

cases = []


def case(cat, user, expect, tools=None, think=False, system=None, history=(), after=(), slots=()):
    m = ([{"role": "system", "content": system}] if system else []) + list(history) + [{"role": "user", "content": user}] + list(after)
    e = dict(expect)
    if think:
        e["thinking"] = True
    else:
        e["not_thinking"] = True
    c = {"id": f"{cat}-{sum(x['category'] == cat for x in cases) + 1:02d}", "category": cat, "messages": m,
         "tools": tools, "enable_thinking": think, "expect": e}
    if slots:
        c["slots"] = list(slots)
    cases.append(c)


def has(*t):
    return {"contains": list(t)}


def wtool(desc="Provides the present weather situation of some city.", key="city", kd="Which city to ask about", extra=None):
    p = {key: {"type": "string", "description": kd}}
    p.update(extra or {})
    return {"type": "function", "function": {"name": "get_weather", "description": desc, "parameters": {"type": "object", "properties": p, "required": [key]}}}


def ctool(desc="A pocket calculator for formulas.", kd="Formula in plain notation"):
    return {"type": "function", "function": {"name": "calculate", "description": desc, "parameters": {"type": "object", "properties": {"expression": {"type": "string", "description": kd}}, "required": ["expression"]}}}


def otool(name, desc, **props):
    return {"type": "function", "function": {"name": name, "description": desc, "parameters": {"type": "object", "properties": {k: {"type": "string", "description": v} for k, v in props.items()}, "required": list(props)}}}


UNIT = {"unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Scale of the answer"}}
MAIL = otool("send_sms", "Sends a text message to a phone number.", number="Phone number", message="What to send")
LIB = otool("find_book", "Searches the library catalogue.", title="Title or part of it")
PARK = otool("reserve_parking", "Reserves a parking space.", garage="Which garage")


def W(*cities, **kw):
    return {"tool_calls": [{"name": "get_weather", "arguments": {kw.get("key", "city"): c, **({"unit": kw["unit"]} if "unit" in kw else {})}} for c in cities]}


def X(e):
    return {"tool_calls": [{"name": "calculate", "arguments": {"expression": e}}]}


def called(*rs, name="get_weather", key="city", think=None):
    """history after the question: the call(s) and the result(s)"""
    calls = [{"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps({key: c})}} for i, (c, _) in enumerate(rs)]
    a = {"role": "assistant", "content": None, "tool_calls": calls}
    if think:
        a["reasoning_content"] = think
    return [a] + [{"role": "tool", "tool_call_id": f"call_{i}", "content": r} for i, (_, r) in enumerate(rs)]


# ---- greet
for t, n in (("Hi, I'm Zelda", "Zelda"), ("Heya! Barnaby's the name.", "Barnaby"), ("Pleased to make your acquaintance, I am Ottilie.", "Ottilie"), ("hello! my first name is Quentin", "Quentin"),
             ("Good afternoon, you are talking to Mirabel now.", "Mirabel"), ("Hi bot, I am called Thaddeus!", "Thaddeus"), ("Hello, Yolanda is speaking here.", "Yolanda"), ("Hey hey, it's me, Rupert!", "Rupert")):
    case("greet", t, has("Hello", n))
case("greet", "Hi, my name happens to be Saskia", has("Hello", "Saskia"), system="You are a museum guide who loves visitors.")
case("greet", "Hello my dear computer!", has("Hello"))
case("greet", "hey, good to have you here", has("Hello"))
case("greet", "A very good morning to everybody!", has("Hello"))
case("greet", "Hi hi hi!", has("Hello"), system="Act as a concierge of a small hotel.")
for t in ("Who am I speaking with here?", "Please describe what you are.", "So, what are your skills?", "Hello, what can you help me with?", "Are you some kind of robot?", "And who might you be?", "Which tasks can you do for me?"):
    case("greet", t, has("tiny demo model"))
case("greet", "How are you feeling this morning?", has("fine"))
case("greet", "Hello! How are you doing on this day?", has("fine"))
case("greet", "Thank you ever so much!", has("welcome"))
case("greet", "thanks, you helped me a lot", has("welcome"))
case("greet", "Great work, thank you kindly", has("welcome"))
case("greet", "Bye for today!", has("Goodbye"))
case("greet", "Goodbye my friend, see you next week", has("Goodbye"))
case("greet", "Ok, I will go now, bye bye", has("Goodbye"))

# ---- capitals
CAPS = [("I would love to know which city is the capital of France.", "Paris"), ("Germany's capital, please?", "Berlin"), ("Which city would be the capital of Italy, then?", "Rome"), ("What is Spain's capital city called?", "Madrid"),
        ("Could you kindly tell me what the capital of Portugal is?", "Lisbon"), ("capital city of Ireland??", "Dublin"), ("what is the name of the capital of the Netherlands", "Amsterdam"), ("My daughter asked me about the capital of Belgium.", "Brussels"),
        ("Austria has what capital?", "Vienna"), ("I'm learning for a test: the capital of Switzerland?", "Bern"), ("do you happen to know the capital of Poland", "Warsaw"), ("We fly to Czechia soon, what's the capital there?", "Prague"),
        ("the capital of Hungary, quickly!", "Budapest"), ("Please give the capital for Greece.", "Athens"), ("Is there a capital of Turkey? Which one?", "Ankara"), ("What's the capital called in Sweden?", "Stockholm"),
        ("Norway - which city is its capital?", "Oslo"), ("Say which city is Denmark's capital.", "Copenhagen"), ("I can't recall the capital of Finland right now.", "Helsinki"), ("Iceland, capital city?", "Reykjavik"),
        ("Trivia question: what is the capital of Russia?", "Moscow"), ("Ukraine's capital is which city?", "Kyiv"), ("what was the capital of Romania again?", "Bucharest"), ("Kindly name Bulgaria's capital.", "Sofia"),
        ("Egypt: which capital does it have?", "Cairo"), ("Do tell me the capital of Kenya.", "Nairobi"), ("What would you say is the capital of Japan?", "Tokyo"), ("And what's the capital of Canada?", "Ottawa"), ("I need Brazil's capital for a crossword.", "Brasilia")]
for t, c in CAPS:
    case("capitals", t, has(c))
case("capitals", "What city is the capital of Australia, mate?", has("Canberra"), system="You are a cheerful pub quiz host.")
case("capitals", "and what about Peru?", has("Lima"), history=[{"role": "user", "content": "What city is Mexico's capital these days?"}, {"role": "assistant", "content": "The capital of Mexico is Mexico City."}])
case("capitals", "Beijing is the capital of which state?", has("China"))
case("capitals", "Which country is Santiago the capital of?", has("Chile"))
case("capitals", "Name me the country that has Zagreb as capital.", has("Croatia"))

# ---- arithmetic
AR = [("Can you tell me what 7 plus 5 is?", 12), ("what would 3 + 9 be?", 12), ("please compute 12 - 4 for me", 8), ("8 and 6 added together are?", 14), ("What number is 15 minus 7?", 8), ("Hey, how much would 20 - 11 be?", 9),
      ("18-9 = ?", 9), ("I would like you to add 13 and 14.", 27), ("2 plus 6, what is it?", 8), ("If you subtract 3 from 16 you get", 13), ("the difference 19 - 17 please", 2), ("Work this out: 10 + 13", 23),
      ("1 + 8 is how much?", 9), ("My son asks what 5 + 18 is", 23), ("Quick maths: 14 - 9", 5), ("How much do 4 and 17 make?", 21), ("sum up 6 and 11", 17), ("From 20 take 8, what remains?", 12), ("Add up 0 and 12", 12),
      ("what do you get for 3+4", 7), ("17 minus 12 equals what?", 5), ("And 9 - 5?", 4), ("Tell me the total of 15 and 19", 34), ("What's the answer to 2 + 13?", 15), ("Do you know how much 11 plus 16 is?", 27),
      ("Say what 8 minus 1 is.", 7), ("5 + 7 makes?", 12), ("Calculate the difference between 9 and 3.", 6), ("Rupert has 4 marbles and wins 3 more. How many marbles has he got?", 7), ("I had 9 cookies and my sister ate 5. How many do I still have?", 4)]
for t, n in AR:
    case("arithmetic", t, {"equals_number": n})
case("arithmetic", "what is 6 plus 8 today?", {"equals_number": 14}, system="You tutor young pupils in maths.")
case("arithmetic", "Could you subtract 7 from 15?", {"equals_number": 8}, system="Speak like a friendly shopkeeper.")
case("arithmetic", "compute the sum 12 + 17, thank you", {"equals_number": 29})
case("arithmetic", "Okay, and now 16 - 11?", {"equals_number": 5}, history=[{"role": "user", "content": "Good day to you, machine!"}, {"role": "assistant", "content": "Hello! How can I help you?"}])

# ---- tools
T1, T2 = wtool(), wtool("Answers how the weather is at the moment.", kd="Name of a city anywhere")
for t, c, tl in (("Please check how the weather is doing in Ulm.", "Ulm", [T1]), ("What sort of weather does Lyon have today?", "Lyon", [T2]), ("I'm off to Porto tomorrow, will it be raining?", "Porto", [T1, MAIL]), ("Weather conditions at Graz?", "Graz", [T2, LIB]),
                 ("Kyoto: how warm is it over there?", "Kyoto", [T1, ctool()]), ("Any rain in Oulu right now?", "Oulu", [PARK, T2]), ("Would I need a raincoat in Trondheim?", "Trondheim", [T1]), ("how's the sky in Sapporo, sunny or cloudy?", "Sapporo", [ctool("Works out formulas."), T2]),
                 ("Look at the weather of Winnipeg for me, will you?", "Winnipeg", [T1]), ("Tell me if it is cold in Adelaide.", "Adelaide", [T2]), ("get me the weather of San Remo", "San Remo", [T1])):
    case("tools", t, W(c), tools=tl)
case("tools", "Does the wind blow strongly in Galway?", W("Galway"), tools=[T2, PARK])
case("tools", "What is the temperature like in Lusaka, in celsius?", W("Lusaka", unit="celsius"), tools=[wtool(extra=UNIT)])
case("tools", "How is the weather over in Cusco?", W("Cusco"), tools=[wtool(extra=UNIT)])
case("tools", "Is today a sunny day in Tbilisi?", W("Tbilisi"), tools=[T1], system="You serve travellers at an information desk.")
C1, C2 = ctool(), ctool("Works out formulas.", "Something such as 1+1")
for t, e, tl in (("How much would 23 * 17 be?", "23 * 17", [C1]), ("Please calculate 144/12 for me", "144/12", [C2]), ("I'd like to know what (3+5)*7 is", "(3+5)*7", [C1, MAIL]), ("What number is 412 minus 85?", "412 - 85", [C2, T1]), ("Tell me the answer of 19 times 21", "19 * 21", [C1]),
                 ("compute this for me please: 1024 - 77 * 3", "1024 - 77 * 3", [LIB, C2]), ("What would 96 divided by 8 be?", "96 / 8", [C1]), ("Ask the calculator about 5.5 + 2.25", "5.5 + 2.25", [C2]), ("what is 250 plus 375 exactly?", "250 + 375", [T2, C1])):
    case("tools", t, X(e), tools=tl)
for c, r, h, tl, q in (("Mainz", '{"temperature": 21, "condition": "sunny"}', ("21", "sunny"), [T1], "How is the weather doing in Mainz?"), ("Verona", "18°C, rain", ("18", "rain"), [T2], "Does Verona have nice weather today?"), ("Cardiff", '{"temp_c": 9, "sky": "cloudy", "humidity": 80}', ("9", "cloudy"), [T1, C1], "Cardiff weather, what's it like?"),
                       ("Nashville", "heavy rain and wind, 12 degrees", ("heavy rain", "12"), [T2], "Will I get wet in Nashville?"), ("Kazan", '{"temperature":-11,"condition":"snow"}', ("-11", "snow"), [T1, MAIL], "Please see how cold it is in Kazan")):
    case("tools", q, has(*h), tools=tl, after=called((c, r)))
for e, r, q in (("23*17", "391", "I want you to compute 23*17"), ("412-85", '{"result": 327}', "412-85, what's that?"), ("7.5 / 3", "2.5", "Please tell me how much 7.5 / 3 is")):
    case("tools", q, has(r.strip('{}"result: ')), tools=[C1], after=called((e, r), name="calculate", key="expression"))
for a, b, q in (("Sarajevo", "Windhoek", "What's the weather situation in Sarajevo and Windhoek?"), ("Puebla", "Bath", "Please check the weather of both Puebla and Bath."), ("Split", "Wellington", "Is Split or Wellington warmer today?")):
    case("tools", q, W(a, b), tools=[T1])
case("tools", "Regina versus Zadar, how is the weather there?", has("14", "fog", "22", "clear"), tools=[T2], after=called(("Regina", "14°C, fog"), ("Zadar", '{"temperature": 22, "condition": "clear"}')))
case("tools", "What city is Argentina's capital?", has("Buenos Aires"), tools=[T1])
case("tools", "Good evening, I am Dagmar and I say hello", has("Hello", "Dagmar"), tools=[T2, C1])
case("tools", "how much is 8 and 6 then?", {"equals_number": 14}, tools=[T1])
case("tools", "Who in the world are you?", has("tiny demo model"), tools=[C2, LIB])
case("tools", "Please recite a sonnet about autumn leaves.", has("tiny demo model", "--model"), tools=[T1, C1])
case("tools", "Make a small JSON with name Felix and age 41.", {"json": {"name": "Felix", "age": 41}}, tools=[T2], slots=("name", "age", "Felix"))
case("tools", "Okay thanks, that was all I wanted", has("welcome"), tools=[C1])
case("tools", "Which metal melts at the lowest temperature?", has("tiny demo model", "--model"), tools=[C1])

# ---- thinking
TH = True
case("thinking", "Hello, they named me Wanda.", has("Hello", "Wanda"), think=TH)
case("thinking", "Evening! I'm Igor, nice to see you", has("Hello", "Igor"), think=TH)
case("thinking", "What exactly might you be?", has("tiny demo model"), think=TH)
case("thinking", "I'd be glad to hear the capital of Morocco.", has("Rabat"), think=TH)
case("thinking", "Nigeria, what is the capital there?", has("Abuja"), think=TH)
case("thinking", "Would you tell me India's capital?", has("New Delhi"), think=TH)
case("thinking", "Name Thailand's capital for my quiz.", has("Bangkok"), think=TH, system="You are a patient quiz master.")
case("thinking", "Say, how much is 12 minus 0?", {"equals_number": 12}, think=TH)
case("thinking", "what are 9 and 14 together?", {"equals_number": 23}, think=TH)
case("thinking", "I must know 17 - 4", {"equals_number": 13}, think=TH)
case("thinking", "Add 13 to 10 please", {"equals_number": 23}, think=TH)
case("thinking", "take 3 from 9", {"equals_number": 6}, think=TH)
case("thinking", "Please look whether it snows in Limerick.", W("Limerick"), tools=[T1], think=TH)
case("thinking", "How are the weather conditions in Varna this week?", W("Varna"), tools=[T2, C1], think=TH)
case("thinking", "Figure out 64 * 12 please", X("64 * 12"), tools=[C1], think=TH)
case("thinking", "Tartu and Phoenix, what weather do they have?", W("Tartu", "Phoenix"), tools=[T1], think=TH)
case("thinking", "Could it be sunny in Hobart?", has("17", "partly cloudy"), tools=[T1], think=TH, after=called(("Hobart", '{"temperature": 17, "condition": "partly cloudy"}'), think="I need the weather in Hobart, so I call get_weather."))
case("thinking", "Is Cordoba hot today or not?", has("36", "sunny"), tools=[T2], think=TH, after=called(("Cordoba", "36°C and sunny")))
case("thinking", "I want a JSON object, name Clementine, city Cordoba", {"json": {"name": "Clementine", "city": "Cordoba"}}, think=TH, slots=("name", "city", "Clementine", "Cordoba"))
case("thinking", "Why do cats purr when they are petted?", has("tiny demo model", "--model"), think=TH)
case("thinking", "Write me a limerick about a lazy programmer.", has("tiny demo model", "--model"), think=TH)
case("thinking", "So long, I must catch my bus!", has("Goodbye"), think=TH)

# ---- json
J = [("Give me a JSON object with name and age for Bob, 30", {"name": "Bob", "age": 30}), ("Please build JSON: name Hugo, city Bath", {"name": "Hugo", "city": "Bath"}), ("I'd like a JSON object that has name Tabitha and color green", {"name": "Tabitha", "color": "green"}),
     ("Turn this into JSON: name = Ulrich, age = 52", {"name": "Ulrich", "age": 52}), ("Write JSON for me with the name Xenia and the job pilot", {"name": "Xenia", "job": "pilot"}), ("JSON please! name: Norbert, level: 9", {"name": "Norbert", "level": 9}),
     ("Could I have a JSON object with title and price for tea, 4?", {"title": "tea", "price": 4}), ("Return as JSON the name Philippa and the score 88", {"name": "Philippa", "score": 88}), ("Please produce a JSON object where city is Graz and country is Austria", {"city": "Graz", "country": "Austria"}),
     ("Make me JSON with user Ezra and rank 5", {"user": "Ezra", "rank": 5}), ("A JSON object holding name Gwendolyn, age 27, please", {"name": "Gwendolyn", "age": 27}), ("Show the following in JSON: animal dog, color brown", {"animal": "dog", "color": "brown"}),
     ("I need JSON now: brand Jasper, year 1999", {"brand": "Jasper", "year": 1999}), ("Format as a JSON object: name Bob, sport tennis, age 61", {"name": "Bob", "sport": "tennis", "age": 61}), ("Compose a JSON object with key size and value large", {"size": "large"}),
     ("Send back JSON with food soup and price 6", {"food": "soup", "price": 6}), ("give me json where name is Hugo and hobby is chess", {"name": "Hugo", "hobby": "chess"})]
for t, j in J:
    case("json", t, {"json": j}, slots=[*j, *map(str, j.values())])
case("json", "Would you return a JSON object with id 7 and status open?", {"json": {"id": 7, "status": "open"}}, system="You are the back end of a shop.", slots=("id", "status", "open"))

# ---- other: everything else gets the honest answer
for t in ("Explain how photosynthesis turns light into sugar.", "Which wine goes well with salmon?", "Draft a cover letter for an apprenticeship.", "Can penguins fly?", "How many strings has a cello?", "Who directed the film Casablanca?", "Plan a three-day hike in the Alps for us.",
          "Write a Haskell function that reverses a list.", "What's a good name for a parrot?", "My laptop screen flickers, what should I do?", "Give me the lyrics of a lullaby.", "What is 12 multiplied by 12?", "How tall is the tallest giraffe on record?", "Translate 'see you tomorrow' to Polish.",
          "When did the Berlin wall fall?", "What's the weather like in Lyon?", "Why do onions make people cry?", "Is it legal to fish without a licence?"):
    case("other", t, has("tiny demo model", "--model"))
case("other", "Which vaccine should my puppy get first?", has("tiny demo model", "--model"), system="You are a vet with many years of practice.")
case("other", "Tell me who painted the ceiling of that famous chapel.", has("tiny demo model", "--model"), history=[{"role": "user", "content": "Hi, folks call me Saskia!"}, {"role": "assistant", "content": "Hello Saskia! How can I help you?"}])

assert len(cases) == 200, len(cases)
used = {tuple(sorted(p)) for p in PAIRS}
assert "tiny demo model" in FALLBACK
json.dump({"note": "never train on this", "pairs": PAIRS, "names": NAMES, "cases": cases}, open(HELDBACK, "w"), ensure_ascii=False, indent=1)
from collections import Counter
print(Counter(c["category"] for c in cases), sum(c["enable_thinking"] for c in cases), "with thinking")
