"""Draws the facts of one conversation, so that every answer follows from what the customer said."""

import random

from generator import catalogue as shop

Slots = dict[str, str]
RELATIVES = ("sister", "brother", "dad", "mother", "partner", "neighbor", "husband", "daughter", "roommate", "aunt")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAMAGED_PARTS = {
    "espresso machine": ("drip tray", "water tank", "cup tray", "side panel"),
    "filter machine": ("carafe", "lid", "water tank"),
    "grinder": ("hopper", "lid", "grounds bin"),
    "kettle": ("handle", "base", "lid"),
}


def draw(intent: str, rng: random.Random) -> tuple[Slots, set[str]]:
    """Return the slot values and the tags that select matching answers for one conversation."""
    product = shop.PRODUCTS[rng.choice(list(shop.PRODUCTS))]
    slots, tags = _place(rng)
    slots |= _product(product, rng)
    slots |= {
        "day": rng.choice(DAYS),
        "relative": rng.choice(RELATIVES),
        "n": str(rng.randint(2, 6)),
        "order": f"KV-{rng.randint(210000, 989999)}",
        "months": str(rng.randint(3, 34)),
        "ago2": str(rng.randint(3, 25)),
        "giftvalue": rng.choice(("25", "50", "100", "150")),
    }
    for fill in (_returns, _status, _care, _grind, _parts, _account, _advice):
        fill(intent, slots, tags, rng)
    return slots, tags


def _place(rng: random.Random) -> tuple[Slots, set[str]]:
    country, other = rng.sample(list(shop.COUNTRIES.values()), 2)
    tags = {country.zone + "vat"}
    if country.zone == "ex":
        tags.add("customs")
    if country.name in shop.EXPRESS_COUNTRIES:
        tags.add("expressok")
    return {
        "country": country.name,
        "city": rng.choice(country.cities),
        "ship_days": country.days,
        "ship_cost": country.cost,
        "ship_free": f"€{country.free_from}",
        "other_country": other.name,
        "other_cost": other.cost,
        "other_days": other.days,
        "other_free": f"€{other.free_from}",
    }, tags


def _product(product: shop.Product, rng: random.Random) -> Slots:
    alt = shop.PRODUCTS[product.substitute]
    color, alt_color = rng.sample(product.colors, 2)
    return {
        "product": product.name,
        "price": f"€{product.price}",
        "warranty": str(product.warranty),
        "repair": f"€{product.repair}",
        "restock": str(product.restock),
        "alt_product": alt.name,
        "altprice": f"€{alt.price}",
        "altpitch": alt.pitch,
        "color": color,
        "alt_color": alt_color,
        "part": rng.choice(DAMAGED_PARTS[product.kind]),
        "return_days": "30",
    }


def _use(name: str, slots: Slots) -> None:
    """Make `name` the product of the conversation for the warranty and price facts."""
    product = shop.PRODUCTS[name]
    slots |= {
        "product": name,
        "price": f"€{product.price}",
        "warranty": str(product.warranty),
        "repair": f"€{product.repair}",
    }


def _returns(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    kind = rng.choice(("gear", "gear", "accessory", "coffee"))
    if kind == "gear":
        slots["item"] = slots["product"]
    elif kind == "accessory":
        slots["item"] = rng.choice(shop.ACCESSORIES)
    else:
        slots["item"] = f"bag of {rng.choice(list(shop.COFFEES))}"
    limit = shop.RETURN_DAYS[kind]
    late = rng.random() < 0.3
    slots["ago"] = str(rng.randint(limit + 2, limit + 25) if late else rng.randint(2, limit - 1))
    tags.add(kind)
    if intent in ("refund_status", "promo_code") and kind != "gear":
        tags.discard(kind)
        tags.add("gear")
        slots["item"] = slots["product"]
    if intent == "return_request" and late:
        tags.add("late")
    if intent == "warranty_claim":
        slots["months"] = str(rng.randint(4, 66))
        if int(slots["months"]) <= 12 * int(slots["warranty"]):
            tags.add("covered")
        if slots["product"] in ("Brio Duo", "Aria Auto"):
            tags.add("duoaria")
    if int(slots["price"][1:]) >= int(slots["ship_free"][1:]):
        tags.add("overfree")
    if intent == "restock" and len(shop.PRODUCTS[slots["product"]].colors) > 1:
        tags.add("color")


def _status(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    choices = ["Received", "Packing", "Handed over"] + (["On hold"] if intent == "order_status" else [])
    slots["status"] = rng.choice(choices)
    tags.add(shop.STATUSES[slots["status"]])
    slots["paymethod"] = rng.choice(list(shop.PAY_METHODS))
    tags.add(shop.PAY_METHODS[slots["paymethod"]])
    slots["paycode"] = rng.choice(list(shop.PAYMENT_CODES))
    slots["paymeaning"], slots["payfix"] = shop.PAYMENT_CODES[slots["paycode"]]


def _care(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    slots["emachine"] = rng.choice(list(shop.ERROR_MACHINES))
    slots["code"], slots["code2"] = rng.sample(shop.ERROR_MACHINES[slots["emachine"]], 2)
    slots["emeaning"], needs_repair, slots["efix"] = shop.ERRORS[slots["code"]]
    slots["emeaning2"], needs_repair2, slots["efix2"] = shop.ERRORS[slots["code2"]]
    if needs_repair:
        tags.add("erepair")
    if needs_repair2:
        tags.add("erepair2")
    slots["dmachine"] = rng.choice(list(shop.DESCALING))
    how, minutes = shop.DESCALING[slots["dmachine"]]
    slots["dhow"], slots["dminutes"] = how + ".", str(minutes)
    slots["lmachine"] = rng.choice(list(shop.LEAKS))
    cause, slots["lfix"] = shop.LEAKS[slots["lmachine"]]
    if slots["lmachine"] == "Tern Kettle":
        tags.add("kettleleak")
    slots["lcause"] = cause + "."
    slots["mmachine"] = rng.choice(list(shop.MILK))
    cause, fix, slots["mclean"], slots["mhot"], _ = shop.MILK[slots["mmachine"]]
    slots["mcause"], slots["mfix"] = cause + ".", fix + "."
    slots["cmachine"] = rng.choice(list(shop.LINK_BUTTONS))
    slots["clink"] = shop.LINK_BUTTONS[slots["cmachine"]]


def _grind(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    slots["grinder"] = rng.choice(list(shop.GRIND))
    slots["brew"], slots["brew2"] = rng.sample(list(shop.BREWS), 2)
    table = shop.GRIND[slots["grinder"]]
    slots["setting"], slots["setting2"] = table[slots["brew"]], table[slots["brew2"]]
    slots["recipe"], slots["recipe2"] = shop.BREWS[slots["brew"]], shop.BREWS[slots["brew2"]]
    if intent == "grinder_jam":
        if slots["grinder"] == "Mola Hand":
            slots["grinder"] = rng.choice(("Mola 40", "Mola 64"))
        _use(slots["grinder"], slots)
    slots["jam"], burr_kg = shop.JAMS[slots["grinder"]]
    slots["burr_kg"] = str(burr_kg)


def _parts(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    part = rng.choice(shop.PARTS)
    machine = rng.choice(("Brio One", "Brio Duo", "Aria Auto", "Pallas Drip"))
    slots |= {
        "partname": part.name,
        "partprice": part.price,
        "partnote": part.note,
        "pmachine": machine,
        "partfor": " and the ".join(part.fits),
        "partalt": shop.PART_EXCEPTIONS.get((part.name, machine), part.otherwise),
    }
    if machine in part.fits:
        tags.add("fits")
        if part.name in ("PureStem filter", "PureStem Mini", "gasket kit"):
            tags.add("installs")


def _account(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    slots["beans"], slots["beans2"] = rng.sample(list(shop.COFFEES), 2)
    slots["beanprice2"], slots["beandesc2"] = shop.COFFEES[slots["beans2"]]
    freq, freq2 = rng.sample((2, 4, 6), 2)
    if intent == "subscription_change" and freq > freq2:
        freq, freq2 = freq2, freq
    slots["freq"], slots["freq2"] = str(freq), str(freq2)
    points = rng.randint(110, 890)
    slots["points"], slots["pointvalue"] = str(points), f"€{points // 100 * 5}"


def _advice(intent: str, slots: Slots, tags: set[str], rng: random.Random) -> None:
    need = rng.choice(list(shop.ADVICE))
    pick, alt, pitch, budget = shop.ADVICE[need]
    alt_pitch = shop.ADVICE_SIDE[alt][0]
    _, extra, grind = shop.ADVICE_SIDE[pick]
    slots |= {
        "need": need,
        "advice": pick,
        "advice_alt": alt,
        "advicepitch": pitch,
        "budget": budget,
        "adviceprice": f"€{shop.PRODUCTS[pick].price}",
        "advicealtprice": f"€{shop.PRODUCTS[alt].price}",
        "advicealtpitch": alt_pitch,
        "adviceextra": extra,
        "advicegrind": grind,
        "advicewarranty": str(shop.PRODUCTS[pick].warranty),
    }
