"""The words of the tiny world: who lives there, what they own, where they put it, and what frightens them."""

from __future__ import annotations

SHE_NAMES = (
    "Anna", "Clara", "Rosa", "Mabel", "Greta", "Nora", "Ida", "Lucy", "Wilma", "Hazel", "Edith", "Flora",
    "Olive", "Tilly", "Agnes", "Maud", "Ruby", "Bess", "Dora", "Ines",
)  # fmt: skip
HE_NAMES = (
    "Ben", "Otto", "Felix", "Hugo", "Oscar", "Arthur", "Jasper", "Walter", "Ned", "Toby", "Basil", "Edgar",
    "Leo", "Max", "Gus", "Rufus", "Albert", "Sam", "Theo", "Henry",
)  # fmt: skip

KINDS = (
    "otter", "hedgehog", "mouse", "fox", "rabbit", "badger", "mole", "gull", "duck", "frog", "toad", "snail",
    "squirrel", "bear", "cat", "goat", "donkey", "crow", "wren", "beaver", "pig", "sheep", "heron", "hare",
    "turtle", "weasel", "baker", "miller", "tailor", "weaver", "gardener", "fiddler", "carpenter", "shepherd",
    "sailor", "clockmaker", "painter", "tinker",
)  # fmt: skip
NATURES = (
    "shy", "quiet", "cheerful", "curious", "careful", "sleepy", "brave", "patient", "polite", "stubborn",
    "clever", "gentle", "hungry", "dreamy", "untidy", "young", "old", "lonely",
)  # fmt: skip

THINGS = (
    "brass whistle", "silver spoon", "glass marble", "pearl button", "tiny bell", "golden key", "tin thimble",
    "white feather", "velvet ribbon", "lucky coin", "copper ring", "old compass", "stubby pencil", "bone comb",
    "reed flute", "folded map", "pink shell", "smooth pebble", "wooden medal", "iron magnet", "yellow chalk",
    "spare tooth", "paper crown", "green candle",
)  # fmt: skip
"""What one owns and may lose: an adjective and a noun, small enough for any of the PLACES."""

PLACES = (
    "blue teapot", "left boot", "cookie jar", "flour sack", "hollow log", "bread bin", "broken clock",
    "rain barrel", "top drawer", "coal bucket", "straw hat", "empty beehive", "picnic basket", "tall vase",
    "watering can", "fruit bowl", "red birdhouse", "violin case", "green suitcase", "pickle jar",
    "sewing basket", "wooden shoe", "cracked jug", "laundry bag",
)  # fmt: skip
"""Where it may be kept. Each reads well after "in the"; the last word alone names it again."""

HIDINGS = (
    "umbrella stand", "soup pot", "hat box", "garden shed", "sugar bowl", "piano", "coat pocket", "bathtub",
    "haystack", "flower pot", "butter dish", "big drum", "chimney", "egg basket", "old trunk", "saddle bag",
    "pillow case", "tool box", "milk can", "grandfather clock", "cuckoo clock", "wheelbarrow", "dustbin", "stove",
)  # fmt: skip
"""Where things turn up by chance. No fact has one of these, so that the PLACES are known from facts alone."""

FEARS = (
    "thunder", "geese", "bees", "the dark", "deep water", "spiders", "owls", "ladders", "mirrors", "shadows",
    "strong wind", "church bells", "ghosts", "puppets", "loud drums", "moths", "fireworks", "scissors",
    "balloons", "echoes", "wolves", "steep stairs", "tall hats", "falling leaves",
)  # fmt: skip
"""What one may be afraid of. None of them needs an article or agrees with a verb."""

GOODS = (
    "small umbrella", "round loaf", "wooden spoon", "woolly hat", "paper boat", "striped sock", "cherry pie",
    "toy drum", "short ladder", "wet sponge", "folding chair", "leaky bucket", "silk scarf", "lemon cake",
    "walking stick", "tin cup", "patchwork quilt", "rubber duck", "crooked nail", "spotted mushroom",
    "hand puppet", "big pumpkin", "fishing net", "feather pillow",
)  # fmt: skip
"""What is bought and sold. None begins with a vowel."""

MEANINGS = (
    "garden gnome", "clay pipe", "rocking horse", "butter knife", "fur mitten", "tea strainer", "paper lantern",
    "door handle", "wicker chair", "pocket mirror", "bicycle bell", "rag doll", "frying pan", "snow globe",
    "feather duster", "clothes peg", "tuning fork", "picture frame", "spinning top", "lemon squeezer",
    "nut cracker", "wind chime", "sewing machine", "measuring tape",
)  # fmt: skip
"""What an invented word may mean: things that can be carried and drawn. None begins with a vowel."""

SPOTS = (
    "the pond", "the old mill", "the crooked bridge", "the orchard", "the lighthouse", "the market square",
    "the railway station", "the river", "the stone wall", "the windmill", "the well", "the library",
    "the bakery", "the harbour", "the tall pine", "the meadow", "the ferry", "the clock tower",
)  # fmt: skip
"""Each reads well after "by", "near" and "to"."""

DISHES = (
    "onion soup", "porridge", "barley stew", "rice pudding", "carrot soup", "plum jam", "bean soup",
    "apple sauce", "pea soup", "turnip stew",
)  # fmt: skip
"""What is cooked in a pot."""
TREATS = (
    "pancakes", "ginger biscuits", "hot chestnuts", "cheese buns", "jam tarts", "dumplings", "sugared almonds",
    "cold plums", "warm rolls", "boiled eggs",
)  # fmt: skip
DAYS = (
    "one morning", "one afternoon", "one day", "on Monday", "on Tuesday", "on Wednesday", "on Thursday",
    "on Friday", "on Saturday", "on Sunday", "last week", "not long ago", "the other day", "before breakfast",
    "just after lunch", "one quiet morning", "long ago", "early one day", "at the end of May", "in April",
)  # fmt: skip
NIGHTS = (
    "one night",
    "late one night",
    "just before midnight",
    "in the middle of the night",
    "very late on Friday",
)
CHORES = (
    "watering the beans", "sweeping the steps", "chasing a butterfly", "feeding the fish", "hanging up the washing",
    "picking plums", "winding the clock", "polishing the door", "counting clouds", "peeling turnips",
    "mending the gate", "practising the trumpet", "stirring the jam", "looking for worms",
)  # fmt: skip
SMALL_FEARS = (
    "cold soup", "wet socks", "long sums", "itchy jumpers", "sour milk", "polite letters", "lumpy beds",
    "slow trains", "burnt toast",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "golden")
NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "eleven", "twelve", "twenty")
CRIES = ("oh dear", "goodness", "bother", "dear me", "well, well", "oh no", "good heavens")
