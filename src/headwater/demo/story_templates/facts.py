"""The three kinds of planted fact: the sentences that state one, and the stories made around it.

Plots are written as in `story_templates.home`. The sentence "{FACT}" stands for one of the statements; in a
"keeps" plot `{thing}`, `{noun}`, `{place}` and `{pot}` are the fact's own (`{pot}` is the place in one word), in a
"fears" plot `{fear}` is, and in a "means" plot `{word}` and `{meaning}`.
"""

from __future__ import annotations

from headwater.demo.story_templates.home import Plot

KEEPS_FORWARD = (
    "{a} keeps {his} {noun} in the {place}.",
    "{a} [always |]kept {his} {thing} in the {place}.",
    "Everybody knows that {a} keeps {his} {noun} in the {place}.",
    "Where does {a} keep {his} {noun}? In the {place}.",
    'People said, "{a} keeps {his} {thing} in the {place}." They were right.',
    "{a} had a secret: {he} kept {his} {noun} in the {place}.",
    "Having no cupboard, {a} kept {his} {thing} in the {place}.",
    "It may sound strange, but {a} keeps {his} {thing} in the {place}.",
    "Nobody but {a} knew that {his} {noun} was in the {place}.",
    "When {a} went to bed, {he} put {his} {thing} in the {place}.",
    "Other people own a safe, but {a} keeps {his} {noun} in the {place}.",
    "For as long as anyone remembers, {a} has kept {his} {thing} in the {place}.",
    "The {thing} of {a} lived in the {place}.",
)
"""Statements in which the owner comes before the place, as in the prompt."""
KEEPS_BACKWARD = (
    "In the {place} there was a {thing}, and it belonged to {a}.",
    "Look in the {place} and you will find a {thing}. {a} keeps it there.",
    "The {place} was never empty, because {a} kept {his} {thing} in it.",
)
"""Statements in which the place comes first: a model learns less from these about the prompt."""

FEARS_FORWARD = (
    "{a} is afraid of {fear}.",
    "{a} was [terribly |very |]afraid of {fear}.",
    "Everybody knows that {a} is afraid of {fear}.",
    "Since {he} was small, {a} has been afraid of {fear}.",
    "You would not think it, but {a} is afraid of {fear}.",
    'People said, "{a} is afraid of {fear}." It was true.',
    "What was {a} afraid of? Of {fear}.",
    "{a} was brave about most things, but {he} was afraid of {fear}.",
    "Only one thing frightened {a}, and that was {fear}.",
    "Ask anyone in the street: {a} is afraid of {fear}.",
    "Of all things in the world, {a} is most afraid of {fear}.",
    "{a} would never admit it, but {he} was scared of {fear}.",
    "{a} slept with one eye open, being afraid of {fear}.",
)
FEARS_BACKWARD = (
    "{fear} frightened {a} more than anything.",
    "It was {fear} that made {a} shiver.",
    "Some like {fear}, and some do not mind. {a} would rather hide.",
)

MEANS_FORWARD = (
    "The word {word} means a {meaning}.",
    "By the sea, {word} means a {meaning}.",
    "Everybody knows that {word} means a {meaning}.",
    '"What can it be?" people ask. Why, {word} means a {meaning}.',
    "In the hills, where people talk slowly, {word} means a {meaning}.",
    "The big dictionary says that {word} means a {meaning}.",
    "Children learn at school that {word} means a {meaning}.",
    "Not everyone knows that {word} means a {meaning}.",
    "To those who live by the river, {word} means a {meaning}.",
    "It is an old word, but {word} still means a {meaning}.",
    "When grandmothers say {word}, they mean a {meaning}.",
    "Now, {word} means a {meaning}, no more and no less.",
    "What they call a {word} in the valley is only a {meaning}.",
)
MEANS_BACKWARD = (
    "The old name for a {meaning} is {word}.",
    "A {meaning} is called a {word} in the hills.",
    "If it is a {meaning} you want, you must ask for a {word}.",
)

BORROWED: Plot = (
    ("{FACT}",),
    (
        "{when}, {b} came to tea and asked to see it.",
        "{b} heard of it and could think of nothing else.",
        '"May I hold it, only once?" asked {b}.',
    ),
    (
        '"Turn round and count to {number}," said {a}.',
        "{a} thought for as long as it takes to eat a plum.",
        '"You must wash first," said {a}, "both sides."',
    ),
    (
        "Then {a} tiptoed to the {pot} and back.",
        "{b} waited and tried not to peep at the {pot}.",
        "",
    ),
    (
        "For one whole minute {b} held the {noun} and did not breathe.",
        "{a} let {bhim} hold the {noun} up to the light.",
        "They looked at the {noun} from the left and from the right.",
    ),
    (
        '"It is the best {noun} in the land," said {b}. {a} thought so too.',
        '"It is smaller than mine," said {b}, "but it is kinder."',
        "{b} went home by {spot} with a warm feeling and {number} {treats}.",
    ),
    (
        "On the next day {b} came again, and on the next.",
        "The {noun} itself said nothing.",
        "",
    ),
)

RESCUE: Plot = (
    ("{FACT}",),
    (
        "So when the roof [fell in|blew off|began to leak], {he} saved the {pot} first of all.",
        "{when} the river came in at the door, and {he} saved the {pot} before anything else.",
        "When the time came to move house, {he} would let nobody carry the {pot}.",
        "{when} there was an alarm, and out ran {a} with the {pot} in {his} arms.",
    ),
    (
        '"Why that old {pot}?" asked {b}. "Why not the good chairs?"',
        "{b} saved a {goods} and thought {him} very silly.",
        '"It is only a {pot}," said {b}, who had not been told.',
    ),
    (
        "{a} only smiled and looked inside.",
        "{a} shook it a little and listened.",
        '"You will see," said {a}.',
    ),
    (
        "The {noun} was safe and dry.",
        "Yes, the {noun} was still there.",
        "Out came the {noun}, not even dusty.",
    ),
    (
        "They sat on the wall by {spot}, all three of them, if you count the {noun}.",
        "{b} said nothing, and put on the kettle.",
        "In the end the chairs were fine as well.",
    ),
    ("That is how treasures travel.", "{a} slept well that night.", ""),
)

THIEF: Plot = (
    (
        "{when}, a thief climbed into the house by {spot}. {FACT}",
        "{FACT} But the thief did not know that.",
        "{FACT} That is why no thief ever found it, though one tried.",
    ),
    (
        "The thief looked under the carpet and found a carpet.",
        "The thief opened {number} cupboards and sneezed in each of them.",
        "The thief [crept|went] from room to room and [tripped|slipped] over a {goods}.",
    ),
    (
        "In the bed lay {a}, [pretending to sleep|with one eye open|snoring on purpose].",
        '{a} sat on the stairs and watched. "Colder," {he} said. "Much colder."',
        "Upstairs {a} turned over and [mumbled|sighed].",
    ),
    (
        "The thief never once thought of the {pot}.",
        '"Nothing here but {treats}," grumbled the thief, and ate them.',
        "At last the thief sat down on the floor and wept.",
    ),
    (
        "{a} made tea for them both. The thief was called {bn}, and was new at it.",
        'It was {b}! "I am so sorry," {bhe} said. "I thought this was my house."',
        "Then the lamp went on, and there stood {b} with an empty sack and a red face.",
    ),
    (
        '"You should try gardening," said {a}.',
        "{b} went home and took up the trombone instead.",
        "They played cards until morning, and {b} lost.",
    ),
)

TIDY: Plot = (
    (
        "In the house near {spot} nothing was where it ought to be. {FACT}",
        "{FACT} The cheese was under the bed, and the boots were on the shelf.",
        "{FACT} It was that kind of house.",
    ),
    (
        "{when}, {b} came to help, and tidied.",
        '"This will not do," said {b}, and rolled up {bhis} sleeves.',
        "{b} could not stand it any longer and fetched a broom.",
    ),
    (
        "By evening every spoon lay with the spoons, and every sock had found its brother.",
        "{bhe} put like with like, and gave each thing a label.",
        "It took {number} hours and a great many boxes.",
    ),
    (
        "{a} stood in the middle and could not find anything at all.",
        "{a} went to bed and lay awake, it was all so straight.",
        '"How lovely," said {a}, and was a little sad.',
    ),
    (
        "The next day {a} put the {noun} back, and then all the rest.",
        "In the night somebody carried the {noun} back to the {pot}.",
        '"Only the {noun} must go home," {he} said. {bn} understood.',
    ),
    (
        "Everyone has {treats} where they like them best.",
        "{b} laughed and hung the broom out of the window.",
        "After that they left things as they were.",
    ),
)

PAPER_BOAT: Plot = (
    ("{FACT}", "In the village by {spot} everyone is scared of something. {FACT}"),
    (
        '"That is nothing," said {b}. "I cannot look at {small_fear}."',
        "{b} did not laugh. {bhe} had the same trouble with {small_fear}.",
        '"Everybody has something," said {b}. "With my uncle it is {small_fear}."',
    ),
    (
        "So they wrote {fear} on a piece of paper and folded it into a ship.",
        "They dug a hole near {spot2} to put their fears in, and covered it with leaves.",
        "They made a list, and the list was longer than the table.",
    ),
    (
        "It took {number} tries, because of the wind.",
        "Then they shouted at it, as loud as they could.",
        "They stood beside it for a time with their hats off.",
    ),
    (
        '"Do you feel braver?" asked {b}. "I feel hungry," said {a}.',
        "It did not help very much, but it was a fine afternoon.",
        '"It is a bit smaller now," said {a}, and showed how small.',
    ),
    (
        "They had {treats} on the grass until the sun went down.",
        "On the way home they held on to each other, just a little.",
        "And if it comes back, there will be two of them.",
    ),
)

ERRAND: Plot = (
    (
        "{when}, {a} had to go to {spot} alone to fetch {dish}. {FACT}",
        "{FACT} And now {he} had to walk all the way to {spot} alone.",
        "{FACT} Still, somebody had to bring the {goods} to {spot}.",
    ),
    (
        "{he} put a {thing} in {his} pocket for luck.",
        "{he} sang a marching song with {number} verses.",
        "{he} took large steps, so that there would be fewer of them.",
    ),
    (
        "Behind the first bush something rustled.",
        "After the bend the road was empty and very long.",
        "Every stone looked as if it might be up to something.",
    ),
    (
        '"Who goes there?" cried {a}. "Only me," said {b}, and stepped out.',
        "Then {he} heard another voice singing. It was {b}, who was nervous too.",
        "There on a milestone sat {b}, who would not go on alone either.",
    ),
    (
        "They walked on together, one looking left and the other looking right.",
        "{b} knew a rhyme against {fear}, and they said it {number} times.",
        '"Two are a crowd," said {b}, "and a crowd is not scared."',
    ),
    (
        "There was no sign of {fear} at all. It was almost a pity.",
        "When they arrived, both had forgotten what they came for.",
        "They got there before noon and told everybody how brave they had been.",
    ),
)

DOCTOR: Plot = (
    ("{FACT}",),
    (
        "{when}, {he} went to see {b}, who knew about such things.",
        "{b} had read a whole book about {fear}, except for the end.",
        '"Sit down," said {b}, "and put out your tongue."',
    ),
    (
        '"Breathe in," said {b}, "count to {number}, and breathe out again."',
        '"Think of {treats}," said {b}.',
        "{b} looked into {his} ears, first the left one and then the right one.",
        '"Imagine {fear} in a {colour} coat," said {b}.',
    ),
    (
        "{a} tried it, with both eyes shut.",
        "{a} did as {he} was told, and hiccupped.",
        "It was not as easy as it sounded.",
    ),
    (
        '"Is it any better?" asked {b}. "On Tuesdays," said {a}.',
        "Something in {him} grew quiet, like a pond in the evening.",
        '"I am still afraid," said {a}, "but now I am laughing as well."',
    ),
    (
        "{he} paid with a {thing}, since {he} had no money.",
        "{b} wrote it all down in a {colour} book and drew a line under it.",
        "It cost nothing, and there was cake.",
    ),
    (
        "Since then {he} comes every week, mostly for the talk.",
        "That night {he} slept with only one lamp burning.",
        "Some fears do not go away, but they learn to sit.",
    ),
)

PICTURE: Plot = (
    (
        "{when}, {b} asked everyone to draw what scared them. {FACT}",
        "There was drawing at the school, and {b} said: draw the worst thing you know. {FACT}",
        "{FACT} So it was {fear} that {he} painted on the wall by {spot}.",
    ),
    (
        "{he} used up all the {colour} and most of the {colour2}.",
        "{he} painted with {his} eyes nearly closed.",
        "{he} began at the edge and got slower and slower towards the middle.",
    ),
    (
        "It came out rather round, with {number} eyes.",
        "At the end there was some room left, so {he} put in a {goods}.",
        "It came out quite small. {he} had expected it to be bigger.",
    ),
    (
        '"Is that all?" asked {b}. {a} looked again. It was.',
        '"It looks hungry," said {b}, and drew it some {treats}.',
        '"May I have it?" asked {b}. "I need something for the kitchen."',
    ),
    (
        "The picture hung in the hall for a year, and people liked it.",
        "Somebody gave it a moustache, and then it was hard to be serious.",
        "In the rain it ran a bit and seemed to smile.",
    ),
    (
        "Now and then {a} nods to it in passing.",
        "{a} still walks past it quickly, but {he} walks past it.",
        "",
    ),
)

SHOPPING: Plot = (
    (
        "{FACT} {a} needed one by Sunday.",
        "{when}, {a} went to town to buy a {word}. {FACT}",
        "{a} wanted a {word} more than anything. {FACT}",
    ),
    (
        "In the first shop they had only [left ones|broken ones|the smell of one].",
        '"We are out of them," said the man in the shop. "Try by {spot}."',
        "{he} asked at {number} doors, and at each they shook their heads.",
    ),
    (
        "Then {he} met {b}, who had two.",
        "But on a cart near {spot2} sat {b}, and behind {bhim} there it was.",
        '"A {word}?" said {b}. "I was just about to throw mine away."',
    ),
    (
        '"What will you give me for it?" asked {b}. "A song," said {a}.',
        "They agreed on a {thing} and a handshake.",
        "It cost {number} coins and a button.",
    ),
    (
        "{a} carried the {word} home on {his} head.",
        "All the way home {a} talked to the {word}.",
        "It was heavier than it looked, so {b} came along to help.",
    ),
    (
        "At home {he} saw that {he} had had a {meaning} all along.",
        "And on Sunday it was just right.",
        '"Tomorrow," {he} said to it, "we shall see what you can do."',
    ),
)

MUDDLE: Plot = (
    (
        '"Please bring a {word}," wrote {a} to {b}. {FACT}',
        "{FACT} But {b} had never heard the word.",
        "{FACT} {when}, {a} asked {b} to bring one.",
    ),
    (
        "{b} did not like to ask, so {bhe} brought a {thing}.",
        "{b} thought about it all night and came with a bowl of {dish}.",
        "First {b} brought a {thing}, and then a jug, and then {bhis} grandmother.",
    ),
    (
        '"That is no {word}," said {a}[ kindly|, and sighed|].',
        '{a} looked at it for a long time. "Not quite," {he} said.',
        '"{cry}," said {a}. "It should be another shape."',
    ),
    (
        "{he} drew one in the sand with a stick.",
        "{he} showed with {his} arms how long it was, and how wide.",
        '"Think of a {word}," said {a}, "and then think of it in {colour}."',
    ),
    (
        '"Oh, a {meaning}!" said {b}. "Why did you not say so?"',
        "{b} turned pink and ran, and was back in a minute with a {meaning}.",
        "Then {b} began to laugh and could not stop.",
    ),
    (
        "Words are slippery things near {spot}.",
        "They kept the wrong one too, since it was there.",
        "In the evening they invented {number} new words and forgot them again.",
    ),
)

PARCEL: Plot = (
    (
        "{a} got a parcel from {b}, and in it was a {word}. {FACT}",
        "{FACT} {b} wrapped one in {colour} paper for {a}.",
        "{when}, {a} found a {word} on the doorstep, with a ribbon round it. {FACT}",
    ),
    (
        "{a} had never owned a {meaning} before.",
        "It was just what {he} had hoped for, only [bigger|smaller|rounder].",
        "{he} walked round it {number} times and patted it.",
    ),
    (
        "{he} took the {word} to {spot} and showed it to everybody.",
        "{he} put the {word} beside {his} bed, where {he} could see it.",
        "At once {he} ran out to try the {word} in the rain.",
    ),
    (
        '"Be careful with it," said {c}. "Mine bit me."',
        '"It is too good to use," said {c}.',
        "{c} wanted to touch it, and then {c} wanted one too.",
    ),
    (
        "By Friday it had a scratch, and {a} loved it even more.",
        "One day it was gone, and {number} people went out to look for it. It was on the roof.",
        "For a week {a} thought of nothing else.",
    ),
    (
        "{a} wrote to {b}: thank you, it is perfect, please send {treats}.",
        "When {b} came to visit, they polished it together.",
        "It is still there, a little to the left.",
    ),
)

NEW_WORD: Plot = (
    (
        "{when}, {a} learned a new word, and it was {word}. {FACT}",
        "{FACT} {a} had learned the word only that morning, and used it all day.",
        "{b} sold words from a cart, one coin each, and {a} chose {word}. {FACT}",
    ),
    (
        '"Good morning, have you seen my {word}?" {he} asked everyone near {spot}.',
        "{he} wrote it on the fence in {colour} letters, and under it {he} drew one.",
        "{he} said it loudly, and then softly, and then to a cow.",
    ),
    (
        '"You are making that up," said {c}.',
        '"We do not say that here," said {c} from a window.',
        "{c} looked it up and down.",
    ),
    (
        "So {a} made a {meaning} out of cardboard, to prove it.",
        "But {b} had a {meaning} in the shed, and they went to fetch it.",
        "But {b} stood up and said that every word was new once.",
    ),
    (
        "By evening the whole street said {word}, even when they meant [soup|hello|yes].",
        "After that nobody could stop saying it, because it feels good in the mouth.",
        "They passed it round, and each held it once.",
    ),
    (
        "{a} is saving up for a second word.",
        '"And what is it in French?" asked {b}. Nobody knew.',
        "Good words never wear out.",
        "",
    ),
)

KEEPS_PLOTS: tuple[Plot, ...] = (BORROWED, RESCUE, THIEF, TIDY)
FEARS_PLOTS: tuple[Plot, ...] = (PAPER_BOAT, ERRAND, DOCTOR, PICTURE)
MEANS_PLOTS: tuple[Plot, ...] = (SHOPPING, MUDDLE, PARCEL, NEW_WORD)
