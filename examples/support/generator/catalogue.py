"""The facts of the fictional shop Kellvane: products, prices, countries, codes and instructions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    """A machine, grinder, kettle or brewer of the catalogue."""

    name: str
    kind: str
    price: int
    warranty: int
    repair: int
    restock: int
    pitch: str
    substitute: str
    colors: tuple[str, ...]


@dataclass(frozen=True)
class Country:
    """Delivery terms for one country; amounts are euro texts as customers see them."""

    name: str
    days: str
    cost: str
    free_from: int
    zone: str
    cities: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """An accessory with the machines it fits and what to take instead."""

    name: str
    price: str
    fits: tuple[str, ...]
    note: str
    otherwise: str


_BRIO_COLORS = ("Cream", "Slate", "Moss")
PRODUCTS = {
    product.name: product
    for product in (
        Product(
            "Brio One",
            "espresso machine",
            349,
            2,
            95,
            3,
            "a compact espresso machine that heats in 3 minutes",
            "Brio Duo",
            _BRIO_COLORS,
        ),
        Product(
            "Brio Duo",
            "espresso machine",
            899,
            5,
            165,
            5,
            "a dual boiler that brews and steams at the same time",
            "Aria Auto",
            ("Slate", "Copper"),
        ),
        Product(
            "Aria Auto",
            "espresso machine",
            749,
            3,
            140,
            4,
            "a bean-to-cup machine with its own grinder",
            "Brio Duo",
            ("Slate", "Cream"),
        ),
        Product(
            "Pallas Drip",
            "filter machine",
            189,
            2,
            55,
            3,
            "a filter machine that makes 1.25 liters in 6 minutes",
            "Tern Kettle",
            ("Cream", "Slate"),
        ),
        Product(
            "Mola 40", "grinder", 129, 2, 45, 2, "a conical burr grinder with 40 steps", "Mola Hand", ("Cream", "Slate")
        ),
        Product(
            "Mola 64",
            "grinder",
            379,
            5,
            85,
            4,
            "a quiet flat burr grinder with a stepless dial",
            "Mola 40",
            ("Slate", "Copper"),
        ),
        Product(
            "Mola Hand", "grinder", 79, 3, 25, 2, "a hand grinder that needs no socket", "Mola 40", ("Slate", "Moss")
        ),
        Product(
            "Tern Kettle",
            "kettle",
            99,
            2,
            35,
            3,
            "a gooseneck kettle that holds its temperature for 30 minutes",
            "Pallas Drip",
            ("Moss", "Cream", "Slate"),
        ),
    )
}
COFFEES = {
    "Harbor Blend": ("€12.50", "round and chocolatey, a medium roast made for espresso"),
    "Meadow": ("€14.00", "light and floral, roasted for filter"),
    "Nightshift Decaf": ("€13.50", "caramel and hazelnut, without the caffeine"),
    "Cinder": ("€12.00", "dark and smoky with little acidity"),
}
COUNTRIES = {
    country.name: country
    for country in (
        Country("the Netherlands", "1 to 2", "€3.90", 75, "nl", ("Utrecht", "Groningen", "Breda")),
        Country("Belgium", "1 to 2", "€4.90", 75, "eu", ("Ghent", "Leuven", "Namur")),
        Country("Germany", "2 to 3", "€4.90", 75, "eu", ("Bremen", "Leipzig", "Freiburg")),
        Country("France", "2 to 4", "€6.90", 75, "eu", ("Lille", "Nantes", "Lyon")),
        Country("Austria", "2 to 4", "€6.90", 75, "eu", ("Graz", "Linz", "Salzburg")),
        Country("Denmark", "2 to 4", "€6.90", 75, "eu", ("Aarhus", "Odense", "Aalborg")),
        Country("Spain", "3 to 5", "€7.90", 75, "eu", ("Valencia", "Bilbao", "Seville")),
        Country("Italy", "3 to 5", "€7.90", 75, "eu", ("Turin", "Bologna", "Trieste")),
        Country("Sweden", "3 to 5", "€8.90", 75, "eu", ("Malmö", "Uppsala", "Gothenburg")),
        Country("Ireland", "4 to 6", "€8.90", 75, "eu", ("Cork", "Galway", "Limerick")),
        Country("Portugal", "4 to 6", "€8.90", 75, "eu", ("Porto", "Braga", "Coimbra")),
        Country("the United Kingdom", "3 to 6", "€11.90", 150, "ex", ("Leeds", "Bristol", "Glasgow")),
        Country("Switzerland", "3 to 6", "€12.90", 150, "ex", ("Basel", "Bern", "Lucerne")),
        Country("Norway", "4 to 7", "€14.90", 150, "ex", ("Bergen", "Trondheim", "Stavanger")),
    )
}
EXPRESS_COUNTRIES = ("the Netherlands", "Belgium", "Germany")
STATUSES = {"Received": "received", "Packing": "packing", "Handed over": "handed", "On hold": "hold"}
ACCESSORIES = ("54 mm tamper", "58 mm tamper", "knock box", "milk pitcher", "Aria milk carafe", "drip scale")
ERRORS = {
    "E1": (
        "the water tank is empty or not seated",
        False,
        "fill the tank to the line and press it down until [it clicks|you hear a click].",
    ),
    "E2": (
        "the brew unit is not locked in place",
        False,
        "open the side door, take the brew unit out, rinse it and push it back until [both arrows meet|it locks].",
    ),
    "E3": (
        "there is air in the pump",
        False,
        "fill the tank, open the hot water tap for 30 seconds and let the water run until it [flows evenly|stops "
        "sputtering].",
    ),
    "E4": (
        "the grinder is blocked",
        False,
        "empty the hopper, run the vacuum over the burrs and set the grind three steps coarser for the next "
        "[two cups|cup].",
    ),
    "E5": (
        "the boiler is too hot",
        False,
        "switch the machine off, let it cool for 20 minutes and keep [10 cm|a hand's width] free behind it.",
    ),
    "E6": (
        "the grounds container is full or missing",
        False,
        "empty the container while the machine is on, wait 5 seconds and [slide it back in|put it back].",
    ),
    "E7": (
        "the temperature sensor has failed",
        True,
        'there is nothing to adjust at home: please unplug it and choose "Request repair" under [Account > '
        "Products|your Products page].",
    ),
    "E8": (
        "the drip tray is full or not seated",
        False,
        "empty the tray, dry the two metal contacts behind it and push it in until it [sits flush|clicks].",
    ),
    "E9": (
        "the control board lost contact with the display",
        True,
        'unplug it for 2 minutes once; if E9 returns, choose "Request repair" under [Account > Products|your '
        "Products page].",
    ),
}
ERROR_MACHINES = {"Aria Auto": tuple(ERRORS), "Brio Duo": ("E1", "E3", "E5", "E7", "E8", "E9")}
DESCALING = {
    "Aria Auto": ("open Menu > Care > Descale on the Aria Auto and follow the screen", 28),
    "Brio One": ("on the Brio One, hold Steam and Cup together for 5 seconds until both lights blink", 20),
    "Brio Duo": ("on the Brio Duo, choose Settings > Service > Descale and let both boilers run through", 45),
    "Pallas Drip": ("on the Pallas Drip, hold Clean for 3 seconds with the carafe in place", 25),
}
LEAKS = {
    "Brio One": (
        "on the Brio One a leak almost always comes from the group gasket",
        "the gasket kit costs €9.50; [pry the old one out with a spoon handle|take the old one out] and press "
        "the new one in, flat side up.",
    ),
    "Brio Duo": (
        "on the Brio Duo this is usually the steam valve or the group gasket",
        "see where it drips: [at the portafilter|at the group] the €9.50 gasket kit solves it, at the steam "
        "wand the machine has to come to our workshop.",
    ),
    "Aria Auto": (
        "on the Aria Auto the drip tray valve is the usual cause",
        "take the tray out, rinse the white valve at the back and push the tray in until it [clicks|sits flush].",
    ),
    "Pallas Drip": (
        "on the Pallas Drip it is nearly always scale in the carafe valve",
        "run the Clean program, then rinse the valve under the lid with [warm|hot] water.",
    ),
    "Tern Kettle": (
        "with the Tern Kettle it is usually a kettle filled above the 0.9 liter line",
        "fill it only to 0.9 liters and [dry the base|wipe the base dry]; a kettle that leaks from the "
        "bottom is replaced within the 2-year warranty.",
    ),
}
MILK = {
    "Aria Auto": (
        "on the Aria Auto flat milk means the carafe takes in too little air",
        "take the carafe lid apart, rinse the small air valve and turn the foam dial to [3 for cappuccino|3]",
        "rinse the carafe after each use with the Quick Clean button, and put it in the dishwasher weekly.",
        "choose Menu > Drinks > Milk heat and set High, which gives about 68 °C.",
        ("Menu", "carafe"),
    ),
    "Brio One": (
        "on the Brio One weak foam usually means the steam tip is clogged",
        "unscrew the tip, soak it in hot water for 10 minutes and [clear the hole with a needle|open the hole "
        "with a needle]",
        "wipe the wand right after steaming and purge it for 2 seconds; soak the tip once a week.",
        "steam until the pitcher is just too hot to hold, about 65 °C, since milk above 70 °C loses its foam.",
        (),
    ),
    "Brio Duo": (
        "on the Brio Duo foam suffers when the steam boiler is set too low",
        "set Settings > Boiler > Steam to 128 °C, purge the wand and keep the tip [just under the "
        "surface|at the surface]",
        "wipe and purge the wand after each pitcher, and soak the tip weekly in warm water.",
        "steam to about 65 °C; above 70 °C the foam collapses, whatever the boiler setting.",
        (),
    ),
}
LINK_BUTTONS = {"Aria Auto": "the Link button behind the side door", "Brio Duo": "the Link button under the cup tray"}
BREWS = {
    "espresso": "18 g in, 36 g out, in 25 to 30 seconds",
    "moka pot": "15 g of coffee and water up to the valve",
    "filter coffee": "60 g of coffee per liter and 3 to 4 minutes",
    "French press": "65 g per liter and 4 minutes of steeping",
}
GRIND = {
    "Mola 40": {"espresso": "step 8", "moka pot": "step 14", "filter coffee": "step 23", "French press": "step 33"},
    "Mola 64": {
        "espresso": "14 on the dial",
        "moka pot": "26 on the dial",
        "filter coffee": "52 on the dial",
        "French press": "75 on the dial",
    },
    "Mola Hand": {
        "espresso": "10 clicks",
        "moka pot": "14 clicks",
        "filter coffee": "21 clicks",
        "French press": "30 clicks",
    },
}
JAMS = {
    "Mola 40": (
        "unplug it, empty the hopper, turn the upper burr out to the left and brush [both burrs|the burrs] clean.",
        350,
    ),
    "Mola 64": (
        "unplug it, remove the hopper, open the dial to 90 and lift out the burr carrier to [brush it "
        "clean|clean it with the brush].",
        800,
    ),
    "Mola Hand": (
        "unscrew the dial at the bottom, take out the burr and [brush it clean|clear it with the brush].",
        200,
    ),
}
PARTS = (
    Part("54 mm tamper", "€29", ("Brio One",), "comes with a stand", "take the 58 mm tamper for €34 instead."),
    Part("58 mm tamper", "€34", ("Brio Duo",), "comes with a stand", "take the 54 mm tamper for €29 instead."),
    Part(
        "PureStem filter",
        "€24",
        ("Brio Duo", "Aria Auto"),
        "comes as a pack of three, each good for 2 months",
        "take the PureStem Mini for €18 instead.",
    ),
    Part(
        "PureStem Mini",
        "€18",
        ("Brio One", "Pallas Drip"),
        "comes as a pack of three, each good for 2 months",
        "take the PureStem filter for €24 instead.",
    ),
    Part(
        "Aria milk carafe",
        "€39",
        ("Aria Auto",),
        "holds 0.5 liters",
        "use the milk pitcher for €22 with the steam wand.",
    ),
    Part(
        "gasket kit",
        "€9.50",
        ("Brio One", "Brio Duo"),
        "includes the gasket and the shower screen",
        "for this model the sealing parts are changed in our workshop.",
    ),
)
_NO_TAMPER = "this machine doses and presses the coffee itself, so it needs no tamper."
PART_EXCEPTIONS = {
    ("54 mm tamper", "Aria Auto"): _NO_TAMPER,
    ("58 mm tamper", "Aria Auto"): _NO_TAMPER,
    ("54 mm tamper", "Pallas Drip"): "a filter machine needs no tamper, only paper filters size 4 at €4.50.",
    ("58 mm tamper", "Pallas Drip"): "a filter machine needs no tamper, only paper filters size 4 at €4.50.",
    ("Aria milk carafe", "Pallas Drip"): "for milk next to filter coffee, the milk pitcher for €22 is all you need.",
}
_EXTRA_ESPRESSO = "a grinder such as the Mola 40 at €129, because fresh coffee makes the biggest difference."
_EXTRA_FILTER = "the Mola Hand at €79 and a bag of Meadow at €14.00 are the best start."
ADVICE = {
    "two espressos a day in a small kitchen": ("Brio One", "Brio Duo", "is 19 cm wide and hot after 3 minutes", "€400"),
    "milk drinks for the whole family": (
        "Brio Duo",
        "Brio One",
        "has two boilers, so it steams milk and brews at the same time",
        "€900",
    ),
    "cappuccino at the push of a button": ("Aria Auto", "Brio Duo", "grinds, brews and froths on its own", "€800"),
    "a small office with eight people": (
        "Aria Auto",
        "Pallas Drip",
        "makes each drink at one touch and tells you when it needs care",
        "€800",
    ),
    "big pots of filter coffee": (
        "Pallas Drip",
        "Tern Kettle",
        "brews 1.25 liters in 6 minutes and keeps it warm without a hot plate",
        "€200",
    ),
    "pour-over at home": (
        "Tern Kettle",
        "Pallas Drip",
        "pours slowly and holds the temperature for 30 minutes",
        "€100",
    ),
    "learning to make real espresso": (
        "Brio One",
        "Aria Auto",
        "shows the pressure on a dial and forgives small mistakes",
        "€350",
    ),
    "someone who has no patience in the morning": (
        "Aria Auto",
        "Brio One",
        "starts on a schedule and needs one touch",
        "€750",
    ),
}
ADVICE_SIDE = {
    "Brio One": (
        "has one boiler, so you brew first and steam after",
        _EXTRA_ESPRESSO,
        "it has no grinder; take the Mola 40 at €129 or order our coffee ground for espresso.",
    ),
    "Brio Duo": (
        "heats two boilers in 9 minutes",
        _EXTRA_ESPRESSO,
        "it has no grinder; the Mola 64 at €379 is the usual partner, the Mola 40 at €129 also works.",
    ),
    "Aria Auto": (
        "does everything by itself, with less to adjust",
        "a PureStem filter pack at €24 saves you half of the descaling.",
        "the grinder is built in, and there is a chute for one spoon of ground coffee.",
    ),
    "Pallas Drip": (
        "makes larger pots and needs no pouring",
        _EXTRA_FILTER,
        "there is no grinder inside; the Mola 40 at €129 fits, or we grind the coffee for filter.",
    ),
    "Tern Kettle": (
        "is for pouring by hand, one or two cups at a time",
        _EXTRA_FILTER,
        "the grinding is up to you; the Mola Hand at €79 is enough for one or two cups.",
    ),
}
PAYMENT_CODES = {
    "P11": (
        "P11 means your bank refused the payment.",
        "please ask [your bank|them] to allow online payments to Kellvane, or use another card.",
    ),
    "P14": (
        "P14 means the confirmation in your banking app took longer than 5 minutes.",
        "start the payment again and [confirm it|approve it] within 5 minutes.",
    ),
    "P20": (
        "P20 means the billing address does not match the one at your bank.",
        "change the billing address [at checkout|in the cart] to the one on your bank statement.",
    ),
    "P32": (
        "P32 means the amount is above your card's online limit.",
        "raise the limit in your banking app, or [choose bank transfer|pay by bank transfer].",
    ),
    "P40": (
        "P40 means a gift card in the cart has no balance left.",
        "remove the gift card [from|in] the cart and pay again.",
    ),
}
PAY_METHODS = {"card": "card", "bank transfer": "transfer", "gift card": "giftpay", "Pay in 3": "pay3"}
OTHER_PRICES = (
    "€6",
    "€15",
    "€4.50",
    "€14.90",
    "€14.50",
    "€27",
    "€22",
    "€75",
    "€150",
    "€25",
    "€50",
    "€100",
    "€40",
    "€5",
    "€9.50",
)
RETURN_DAYS = {"gear": 30, "accessory": 60, "coffee": 14}


def known_prices() -> set[str]:
    """Every euro amount an answer may state without its being the customer's own points value."""
    prices = {f"€{product.price}" for product in PRODUCTS.values()} | {f"€{p.repair}" for p in PRODUCTS.values()}
    prices |= {price for price, _ in COFFEES.values()} | {part.price for part in PARTS}
    prices |= {country.cost for country in COUNTRIES.values()}
    return prices | set(OTHER_PRICES)
