"""Stories that happen out of doors: journeys, races, markets, newcomers, and questions asked at night.

Plots are written as in `headwater.demo.story_templates.home`.
"""

from __future__ import annotations

from headwater.demo.story_templates.home import Plot

WISH: Plot = (
    (
        "More than anything, {a} wished for a {goods}.",
        "Every evening {a} looked at the first star and wished for a {goods}.",
        "{when}, {a} found a bottle by {spot}, and in the bottle sat a very small, very tired wizard.",
        "There was a wishing well near {spot}, and {when} {a} dropped {his} last coin into it.",
    ),
    (
        '"One wish only," said a voice, "and please be quick."',
        "{he} wished so hard that {his} ears went red.",
        '"A {goods}," {he} whispered, "if it is not too much trouble."',
        "",
    ),
    (
        "There was a puff of {colour} smoke, and there stood a {goods2} instead.",
        "In the morning there was a parcel on the step. It held a {goods2}, which was not the same thing.",
        "Something fell out of the sky. It was a {goods2}, and it was upside down.",
    ),
    (
        '"{cry}," said {a}. "That is not it at all."',
        "{a} walked round it {number} times.",
        "{a} was too polite to complain.",
        "",
    ),
    (
        "But just then {b} came by, who had wanted one for years.",
        "But {b} laughed with joy to see it.",
        '"May I borrow that?" asked {b}. "Mine is broken."',
    ),
    (
        "And {b} had a {goods} at home that nobody used. So they swapped.",
        "{a} gave it away, and somehow that felt better than wishing.",
        "They used it together the whole summer, and the old wish was forgotten.",
    ),
    (
        "The stars winked at each other.",
        "Wishes often go the long way round.",
        '"Next time," said {a}, "I shall wish for {treats}."',
        "",
    ),
)

RACE: Plot = (
    (
        "{when} there was a race from {spot} to {spot2}, and {a} was in it.",
        "Everybody wanted to win the great [sack|spoon|snail|barrel] race. {a} only wanted to finish.",
        "{a} and {b} had a bet about who could run faster.",
    ),
    (
        "The prize was a {thing} on a {colour} cushion.",
        "{a} tied {his} laces {number} times.",
        "{b} had new shoes and a very loud whistle.",
        "",
    ),
    (
        '"Ready, steady," said {c}, and sneezed, and off they all went.',
        "{c} waved a spoon, and they were off.",
        "The drum went boom, and {b} shot away like a cork.",
    ),
    (
        "{a} ran well until {he} saw a [beetle on its back|sad little gate|ripe plum] and had to stop.",
        "Halfway there {a} turned left where everybody else turned right.",
        "{a} got a stone in {his} shoe, and then a second one to keep it company.",
        "",
    ),
    (
        "Further on, {b} was lying in a ditch with {bhis} feet in the air.",
        "Then {a} heard a small voice from a bush. It was {b}, quite tangled up.",
        "Near the end {a} found {b} sitting on a stump, out of breath.",
    ),
    (
        "{a} helped {bhim} up, and they walked the rest of the way arm in arm.",
        '"Come along," said {a}. {bn} leaned on {him}, and they hopped.',
        "They shared {number} {treats} and forgot that it was a race.",
    ),
    (
        "They were the very last, and got the loudest cheer.",
        "{c} gave them one ribbon, cut in two.",
        "The winner had gone home long ago, but the band was still playing for them.",
        "An empty tin, rolling downhill, beat them by a nose.",
    ),
)

NOISE: Plot = (
    (
        "{night} {a} heard a noise.",
        "{night} something went bump under the bed of {a}.",
        "{a} was nearly asleep when the [roof|cupboard|floor] said [ooooh|tap, tap, tap|hrrrm].",
    ),
    (
        "First it was a [knock|scratch], and then it was a kind of [sigh|whistle|gurgle].",
        "It came once, it came twice, and then it waited.",
        "It sounded like a giant eating {treats}.",
        "",
    ),
    (
        "{a} pulled the blanket up to {his} nose.",
        "{a} took a candle in one hand and a {goods} in the other.",
        '"Who is there?" asked {a}. Nobody said, "Nobody."',
    ),
    (
        "Step by step {he} went down the stairs.",
        "{he} counted to {number} and opened the door.",
        "{he} crept along the wall to the kitchen, where it was loudest.",
        "",
    ),
    (
        "There in the moonlight sat {b}, eating {dish} out of the pot.",
        'There stood {b} in a nightshirt. "I could not sleep either," {bhe} said.',
        "It was only {b}, who had climbed in to return a {thing}.",
        "There was no giant at all, only {b}, snoring in the laundry basket.",
    ),
    (
        "{a} laughed until {he} had to sit down.",
        '"You might have knocked," said {a}. "I did knock," said {b}.',
        "So {a} lit the stove, and they talked until the birds began.",
    ),
    (
        "Behind them something went bump again, but they did not hear it.",
        "Since then there is always a second cup on the table.",
        "In the morning they both slept until noon.",
        "",
    ),
)

MARKET: Plot = (
    (
        "{when}, {a} went to market with a {goods} to sell.",
        "{a} had a {goods}, and {he} was tired of it.",
        "{a} set out for {spot} with a {goods} under one arm.",
    ),
    (
        "On the way {he} met {b}, who offered a {goods2} for it.",
        '"I will give you my {goods2} for that," said {b}.',
        "At the first corner stood {b} with a {goods2} that squeaked.",
    ),
    (
        "It seemed a good bargain, so they shook on it.",
        '"Done," said {a}.',
        "They swapped, and each thought the other was a fool.",
        "",
    ),
    (
        "Next came {c}, who had {number} {treats} in a bag and wished for a {goods2}.",
        "A little later {c} gave {him} a {thing} for the {goods2}.",
        "The {goods2} was heavy, and {c} had a nice light {thing}. They swapped too.",
    ),
    (
        "Then it began to rain, and {a} thought of what {he} used to have.",
        "By noon {a} had swapped again, and again, and was quite dizzy.",
        "{a} sat down near {spot2} to think it over.",
        "",
    ),
    (
        "The last man in the last row had something to trade. It was the very same {goods}.",
        "And who should come round the corner but somebody selling a {goods}, the old one, with the same small stain.",
        "In the evening a child swapped with {him} one more time. Now {a} had {his} own {goods} back.",
    ),
    (
        '"What a beauty," said {a}, and carried it home.',
        "It had never looked so fine.",
        "{he} put it in the window and never sold it again.",
        '"How was the market?" they asked at home. "Long," said {a}.',
        "",
    ),
)

NEWCOMER: Plot = (
    (
        "{when}, {b} moved into the empty house near {spot}.",
        "Nobody knew {b}, who had come with one {goods} and no umbrella.",
        "There was a light in the house by {spot}, where no light had been for {number} years.",
    ),
    (
        "{a} saw it from the window and was curious.",
        "{a} wanted to say hello, but could not think how.",
        '"Somebody should go and knock," said {c}. Everyone looked at {a}.',
    ),
    (
        "So {he} baked {number} {treats}, dropped two, and knocked with {his} elbow.",
        "{he} walked past the door {number} times, and each time more slowly.",
        "{he} wrote a note and pushed it under the door. It said: hello.",
    ),
    (
        "The door opened a crack. Out came the tip of a nose. It belonged to {b}.",
        "At last {b} opened, with soap on both ears.",
        "A window went up, and {b} looked out.",
    ),
    (
        '"I do not know anyone here," said {b}. "Now you know me," said {a}.',
        '"Is it always so quiet?" asked {b}. "Only until Tuesday," said {a}.',
        "They both began to speak at once, and both stopped, and both laughed.",
        '"I was just too shy to come out," said {b}. "I was too shy to come in," said {a}.',
    ),
    (
        "They unpacked the boxes together and found a {thing} that neither had seen before.",
        "{b} could play the [fiddle|spoons|comb], as it turned out, and {a} could dance a little.",
        "They sat on the stairs, because there was no chair yet.",
        "",
    ),
    (
        "A year later nobody could remember the street without {b}.",
        "When {a} went home, {he} had a new friend and only one shoe.",
        "The next day it was {bn} who knocked.",
        "",
    ),
)

QUESTION: Plot = (
    (
        '"Why does the moon follow me?" asked {a}.',
        "{when}, {a} began to wonder where the wind goes to sleep.",
        "{a} had a question, and it would not let {him} sit still. How long is always?",
        '"Who winds up the sea?" {a} asked at breakfast.',
    ),
    (
        '"Ask me tomorrow," said {b}.',
        "{b} scratched {bhis} head and said that it was something to do with cheese.",
        '"Because of the {treats}," said {b}, who was hungry.',
        '"It has always been so," said {b} behind the newspaper.',
    ),
    (
        "So {a} went to {spot} and asked {c}.",
        "The next one {he} asked was {c}, who was {chore}.",
        "{a} put on {his} hat and walked to {c}, who knew nearly everything.",
    ),
    (
        '"Nobody knows," said {cn}, "and I know it best of all."',
        "{c} drew a long line in the sand, looked at it and walked off.",
        '"That is {number} questions in one," said {cn}. "Start with the smallest."',
        "{c} took down a thick book, but the page was missing.",
    ),
    (
        "In the end {a} lay down in the grass and looked up.",
        "So {he} asked the pond. The pond made a ring, and another ring, and was still.",
        "In the evening {he} asked {his} pillow, and the pillow let {him} think.",
        "",
    ),
    (
        "The answer was almost there. Then {he} fell asleep.",
        '"I see," said {a}, although it was dark.',
        "{he} made up an answer of {his} own, and it was {colour}.",
    ),
    (
        "In the morning {he} had a new question.",
        "{a} told it to nobody but {b}.",
        "It is still the best answer anyone has found.",
        "",
    ),
)

STUCK: Plot = (
    (
        "{when}, {a} put {his} head into a honey jar to see what was left, and could not get it out.",
        "{a} had crawled into a drainpipe after a lost ball, and the pipe was narrow.",
        "{a} was stuck in the [fence|chimney|cat door|garden gate], half in and half out.",
    ),
    (
        '"Help," {he} said, not very loudly, because it was embarrassing.',
        "{he} wriggled. It made things worse.",
        "{he} thought that somebody would come. Nobody did, for quite a while.",
        "",
    ),
    (
        "Then {b} passed by with a {goods}.",
        "{b} was {chore}, and heard something.",
        "After {number} minutes there came {b}, whistling.",
    ),
    (
        '"Are you stuck?" asked {b}. "No," said {a}. "I am resting."',
        "{b} pulled, and {c} pulled {b}, and nothing moved.",
        "{b} tried butter. {bhe} tried soap. {bhe} tried saying please.",
        "",
    ),
    (
        "Then a fly sat down on the nose of {a}, and {he} sneezed.",
        "{b} told the funniest story {bhe} knew, and {a} laughed so hard that something slipped.",
        "So {b} called all the neighbours, and they counted to {number} and heaved.",
    ),
    (
        "Pop! Out came {a}, and they all fell into the roses.",
        "With a crack and a squeak {a} was free.",
        "{a} came loose and flew straight into the {colour} washing.",
    ),
    (
        '"Thank you," said {a}. "I was nearly done resting."',
        "They had {treats} afterwards, but {a} ate only a few, to be on the safe side.",
        "Nobody ever spoke of it again, except {b}, every day.",
        "",
    ),
)

LETTER: Plot = (
    (
        "{when}, a letter came for {a}. It had {number} stamps and no name on the back.",
        "{a} got a letter, the first in {his} life.",
        "The wind brought {a} a letter and dropped it in the {hiding}.",
    ),
    (
        '"Come at once," it said, "and bring a {goods}."',
        "It said only this: I have thought about it, and you were right.",
        "The ink had run, and all {he} could read was the word {treats}.",
    ),
    (
        "{a} read it {number} times, once upside down.",
        "{a} packed a bag and put on both scarves.",
        '"{cry}," said {a}, and sat down on the suitcase.',
        "",
    ),
    (
        "The road went past {spot} and over the hill, and it snowed a little.",
        "{he} walked to {spot}, took the wrong path, and walked back.",
        "{he} asked for the way at {spot}, and everyone pointed somewhere else.",
        "",
    ),
    (
        "At the end of the road stood the house of {b}, with a lamp in the window.",
        "There by the path sat {b}, waiting.",
        "And then {he} ran into {b}, who was on the way to find {him}.",
    ),
    (
        '"Did you send it?" asked {a}. "Last year," said {b}. "The post is slow."',
        '"I only wanted to see if the pen worked," said {b}.',
        '"That letter was for my aunt," said {b}, "but do come in."',
    ),
    (
        "So {he} stayed for a week.",
        "They had {treats} by the fire and wrote a letter back together.",
        "On the way home {a} was quite sure that it had been worth it.",
    ),
)

ABROAD_PLOTS: tuple[Plot, ...] = (WISH, RACE, NOISE, MARKET, NEWCOMER, QUESTION, STUCK, LETTER)
