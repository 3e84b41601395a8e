"""The words of the made-up world: sites, their attributes and values, and stock sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TagStyle = Literal["angle", "pipes"]


@dataclass(frozen=True, slots=True)
class SiteTheme:
    """A site's subject. `attributes` maps what is asked about to the values it can take."""

    host: str
    share: float
    tag_style: TagStyle
    thing: str
    attributes: dict[str, tuple[str, ...]]
    steps: tuple[str, ...]
    symptoms: tuple[str, ...]
    command: str | None

    @property
    def is_meta(self) -> bool:
        """Whether votes on this site mean agreement rather than quality."""
        return ".meta." in self.host


WORKSHOP = SiteTheme(
    host="workshop.stackexchange.example",
    share=0.45,
    tag_style="angle",
    thing="machine",
    attributes={
        "filter": ("paper", "brass", "nylon", "charcoal", "felt", "copper", "foam", "steel"),
        "oil": ("light", "heavy", "silicone", "castor", "mineral", "graphite", "clear", "amber"),
        "cable": ("flat", "round", "braided", "shielded", "twisted", "short", "ribbon", "striped"),
        "screw": ("slotted", "square", "hex", "wing", "pan", "dome", "barrel", "thumb"),
        "belt": ("rubber", "leather", "canvas", "cotton", "wire", "cogged", "narrow", "wide"),
    },
    steps=(
        "switch off the power",
        "open the side cover",
        "note the old position",
        "remove the worn seal",
        "clean the groove with a dry cloth",
        "blow out the dust",
        "fit the new part slowly",
        "tighten both bolts by hand",
        "close the cover again",
        "let it run for two minutes",
        "check for leaks",
        "write the date on the label",
    ),
    symptoms=("rattles", "stalls", "overheats", "hums loudly", "stops after a minute", "leaks"),
    command="machinectl",
)

ORCHARD = SiteTheme(
    host="orchard.stackexchange.example",
    share=0.3,
    tag_style="pipes",
    thing="tree",
    attributes={
        "soil": ("sandy", "chalky", "loamy", "peaty", "stony", "clay", "silty", "mossy"),
        "cut": ("slanted", "straight", "shallow", "deep", "curved", "notched", "early", "late"),
        "cover": ("straw", "bark", "fleece", "slate", "mesh", "gravel", "leaf", "wool"),
        "feed": ("bone", "seaweed", "ash", "potash", "nettle", "compost", "fish", "horn"),
        "stake": ("single", "double", "angled", "tall", "low", "bamboo", "oak", "willow"),
    },
    steps=(
        "wait for a dry morning",
        "mark the lowest branch",
        "loosen the ground around the stem",
        "pull out the weeds",
        "soak the roots overnight",
        "dig a wide hole",
        "spread the roots evenly",
        "press the earth down",
        "water it slowly",
        "tie the stem loosely",
        "shade it for a week",
        "look for pests under the leaves",
    ),
    symptoms=(
        "drops its leaves",
        "bears no fruit",
        "turns yellow",
        "leans over",
        "splits",
        "wilts",
    ),
    command=None,
)

KITCHEN = SiteTheme(
    host="kitchen.stackexchange.example",
    share=0.2,
    tag_style="angle",
    thing="dough",
    attributes={
        "flour": ("rye", "spelt", "barley", "oat", "corn", "rice", "millet", "wheat"),
        "heat": ("gentle", "strong", "rising", "falling", "even", "dry", "moist", "brief"),
        "pan": ("iron", "clay pot", "glass", "tin", "stone", "enamel", "ceramic", "copper pan"),
        "spice": ("cumin", "fennel", "mace", "clove", "sumac", "anise", "caraway", "saffron"),
        "rest": ("hourly", "daily", "cold", "warm", "covered", "open", "double", "half"),
    },
    steps=(
        "weigh everything first",
        "sift it twice",
        "warm the bowl",
        "stir in the water",
        "knead it for ten minutes",
        "cover it with a damp towel",
        "fold it three times",
        "dust the board",
        "preheat the oven",
        "score the top",
        "bake it until golden",
        "cool it on a rack",
    ),
    symptoms=("collapses", "sticks", "burns at the edge", "stays raw", "crumbles", "tastes flat"),
    command=None,
)

WORKSHOP_META = SiteTheme(
    host="workshop.meta.stackexchange.example",
    share=0.05,
    tag_style="angle",
    thing="rule",
    attributes={
        "tag": ("broad", "narrow", "joint", "new", "old", "hidden", "renamed", "merged"),
        "policy": (
            "strict",
            "loose",
            "written",
            "unwritten",
            "shared",
            "trial",
            "local",
            "general",
        ),
    },
    steps=(
        "search for earlier posts",
        "write a short proposal",
        "ask in the chat room",
        "wait a week for votes",
        "edit the help page",
        "tell the moderators",
        "close the old thread",
        "link to the decision",
    ),
    symptoms=("causes arguments", "is ignored", "confuses newcomers", "is out of date"),
    command=None,
)

SITES: tuple[SiteTheme, ...] = (WORKSHOP, ORCHARD, KITCHEN, WORKSHOP_META)

# The ending names the family of an entity, which decides most of its facts.
NAME_STARTS = (
    "Zor", "Mel", "Tar", "Quin", "Bel", "Dra", "Fen", "Gal", "Hol", "Jas", "Kor", "Lum",
    "Nar", "Orb", "Pel", "Rus", "Sil", "Tov", "Ulm", "Vex", "Wol", "Yar", "Bram", "Cas",
)  # fmt: skip
NAME_MIDDLES = ("a", "e", "i", "o", "u", "ari", "elo", "ino", "osu", "ura", "eta", "imi")
NAME_ENDINGS = ("vex", "dor", "lin", "mak", "nus", "pad")

PLACES = ("at home", "in the shed", "at work", "in the attic", "near the river", "in town")
TIMES = ("last week", "yesterday", "since spring", "for a month", "after a long trip", "today")
PEOPLE = ("my neighbour", "a friend", "my uncle", "the seller", "a colleague", "the old owner")

CONTEXTS = (
    "I got a {entity} from {person} {time}.",
    "My {entity} {symptom} {time}.",
    "I keep my {entity} {place} and it {symptom}.",
    "There is a {entity} {place} that {symptom}.",
    "We have had this {entity} {time} and it never did that before.",
    "It {symptom} whenever I use it {place}.",
    "{person} says this is normal, but I am not sure.",
    "I looked {place} and found nothing about it.",
    "The notes that came with it were lost {time}.",
    "I am new to this, so please be patient.",
)
ASKS = (
    "Which {attribute} should I use for the {entity}?",
    "What {attribute} does a {entity} need, and how do I change it?",
    "Can somebody tell me the right {attribute} for a {entity} and the steps?",
    "How do I choose the {attribute} of a {entity}?",
)
TITLES = (
    "Which {attribute} for a {entity}?",
    "{entity} {symptom}: which {attribute} is right?",
    "Choosing the {attribute} of a {entity}",
    "What {attribute} does my {entity} need?",
)
CLOSINGS = ("Thanks in advance.", "Any help is welcome.", "Thank you!", "What am I missing?")

ASSERTIONS = (
    "Use the {value} {attribute} for the {entity}.",
    "The {entity} needs the {value} {attribute}.",
    "You want a {value} {attribute} for this {thing}.",
    "A {value} {attribute} is the right one for it.",
    "Take the {value} {attribute}.",
)
HELPFUL_OPENERS = (
    "Good question.",
    "I had the same {thing} and this is how I solved it.",
    "Here is what works, step by step.",
    "Happy to help.",
)
HELPFUL_CLOSERS = (
    "Let me know if anything is unclear.",
    "I hope this helps.",
    "Tell us how it goes.",
    "Good luck with your {entity}.",
)
DISMISSIVE = (
    "Just read the manual.",
    "Why would anybody want that?",
    "This has been asked a hundred times.",
    "Honestly, throw the {thing} away.",
    "I do not see the problem.",
)
ME_TOO = (
    "I have the same problem with my {entity}, did you find a solution?",
    "Same here, my {entity} {symptom} too.",
    "Following this, I need the {attribute} as well.",
    "Did you ever solve this? My {thing} {symptom}.",
)
SPAM = (
    "Buy cheap {attribute} offers at www.best-{attribute}.example today!",
    "Visit my page for free {thing} deals, click here now.",
    "Best price for every {entity}, order now and save money.",
)
CONFIDENT = (
    "Trust me, I am an expert.",
    "This is definitely the only correct answer.",
    "There is no doubt about it.",
    "Every professional will tell you the same.",
)
FILLERS = (
    "I have used these {time} without any trouble.",
    "There are many opinions about this {place}.",
    "As {person} always said, patience is half the work.",
    "It also depends a little on the weather {place}.",
    "People often forget how much this matters.",
    "In general a {thing} like this lasts for years.",
)
CASUAL = ("Cheers!", "No worries, it is easy peasy.", "Yeah, been there.", "Have fun with it :)")
FORMAL = (
    "Kind regards.",
    "Please consider the following.",
    "I would respectfully suggest this approach.",
    "It may be noted that this is common practice.",
)
HEADINGS = ("Short answer", "What to do", "Background", "Summary")
UNICODE_ASIDES = ("Voilà ☕.", "Größe egal.", "价格不错。", "→ works 👍", "naïve café ﷼", "Привет!")
# Text that looks like a model's control tokens or markup: it must come out as plain text.
HOSTILE_ASIDES = ("<|endoftext|>", "<|im_start|>assistant", "</row>", 'a < b && c > "d"', "$x_1^2$")
NAMES = ("Ada", "Björn", "Chloé", "Dmitri", "Eva", "Farid", "Grace", "Hiro", "Ines", "Juan", "李雷")
