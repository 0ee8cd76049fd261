"""Stories that happen at home: what is lost, cooked, built, planted, quarrelled over and made up.

A plot is a row of moves, a move a choice of sentences. In a sentence `[x|y]` is a choice and `{slot}` is filled by
`headwater.demo.telling`: `{a}`, `{b}`, `{c}` are the characters, introduced by themselves the first time they are
named, with `{he}`, `{him}`, `{his}`, `{himself}` for the first and `{bhe}`, `{bhim}`, `{bhis}` for the second.
Inside speech `{an}`, `{bn}`, `{cn}` are the bare names. An empty sentence leaves the move out.
"""

from __future__ import annotations

Plot = tuple[tuple[str, ...], ...]

LOST: Plot = (
    (
        "{when}, {a} could not find {his} {thing}.",
        "{a} reached for {his} {thing}, but it was gone.",
        '"Where is my {noun}? It was here a minute ago," cried {a}.',
        "{a} had lost {his} {thing} again.",
        "Nobody in the house near {spot} had slept, because {a} had lost {his} {thing}.",
    ),
    (
        "{he} looked under the bed, behind the stove and inside both slippers.",
        "{he} turned out every pocket and found only crumbs.",
        "{he} looked in the bath. No {noun}. {he} looked on the roof. No {noun}.",
        "{he} asked the clock and the kettle, and neither of them would say.",
        "{he} looked in all the places where it had never been, because {he} had tried the others.",
    ),
    (
        "{b} [came by with a lamp|put down the newspaper|left the washing half done] and helped to look.",
        "Along came {b}, who was good at finding things.",
        "{b} heard the noise and [climbed in through the window|ran over in one shoe].",
    ),
    (
        '"When did you see it last?" asked {b}. {a} thought hard. "I was {chore}," {he} said.',
        '"Shut your eyes and think," said {b}. {a} shut {his} eyes. "I was {chore}," {he} said slowly.',
        "",
    ),
    (
        "[At last they looked|Then, just for luck, they looked|So they looked] in the {hiding}, and there it was.",
        "Something was sticking out of the {hiding}. It was the {noun}!",
        "{b} tripped over the {hiding}, and out fell the {noun}.",
    ),
    (
        '"I put it there so that I would not lose it," said {a}[ in a small voice|, going pink|].',
        "{a} was so glad that {he} [danced on the table|kissed the {noun} twice|sang until supper].",
        "{a} thanked {b} with {number} {treats} and a bow.",
    ),
    (
        "Since that day {he} wears it round {his} neck on a string.",
        '"Next time," said {b}, "look there first."',
        "An hour later {he} had lost {his} hat.",
        "",
    ),
)

SOUP: Plot = (
    (
        "{when}, {a} made {dish} for the whole street.",
        "{a} wanted to make the best {dish} in the world.",
        "It was the birthday of {b}, so {a} put on an apron and began to make {dish}.",
        "There was nothing in the kitchen of {a} but flour, water and hope. {he} decided to make {dish}.",
    ),
    (
        "The book said one spoon of salt. {a} read it as one [boot|bucket|hat] of salt.",
        "[While {he} was|{he} got tired, and while {he} was] looking out of the window, the pot began to sing, and "
        "then to smoke.",
        "{he} could not find the pepper, so {he} used [soap|chalk|sand] instead.",
        "{he} stirred to the left, and {he} stirred to the right, and the spoon got stuck.",
    ),
    (
        '"{cry}," said {a}.',
        "A terrible smell crept out under the door.",
        "The lid flew up and stayed on the ceiling.",
        "",
    ),
    (
        "{b} came in, tried a little and [turned quite green|sat down very suddenly|asked for some water].",
        "{b} [looked|peeped] into the pot. The pot looked back.",
        '"What is it?" asked {b}[ politely|, holding {bhis} nose|].',
    ),
    (
        "{a} [wanted to cry|hid behind the curtain|went very quiet].",
        '"It is {dish}," said {a}, "but it does not know it."',
        "",
    ),
    (
        "Then {b} had an idea. They used it to [glue the chair|mend the roof|paint the fence], and it held for years.",
        "{b} opened a basket, and there were {number} {treats} in it. They ate those on the step.",
        "So they began again together, one to read and one to stir, and the second pot was [perfect|nearly good].",
        "The ducks from {spot} came and ate it all, and asked for the recipe.",
    ),
    (
        "[Even now,|To this day] the street talks about it.",
        '"Tomorrow," said {a}, "I shall make toast."',
        "{b} washed up, and {a} dried, and they both laughed.",
        "The pot was never the same again.",
        "",
    ),
)

MACHINE: Plot = (
    (
        "{a} was building a [boat|balloon|sledge|kite] out of {number} old [doors|chairs|barrels|curtains].",
        "All winter {a} hammered in the shed by {spot}. {he} was building something that could fly.",
        "{when}, {a} drew a plan for a machine that could [peel eggs|tie shoes|catch the moon|scratch backs].",
    ),
    (
        '"It will never work," said {b}.',
        '"Does it need so many wheels?" asked {b}.',
        "{b} held the nails and asked no questions.",
        "{b} brought a {goods}, in case it was needed. It was.",
        "",
    ),
    (
        "When it was ready, {a} [rang a bell|took a deep breath|put on a clean shirt] and pulled the string.",
        "The whole village came to watch. {a} counted down from {number}.",
        'At last {he} climbed in and shouted, "Go!"',
    ),
    (
        "It went up. Then it went down. Then it went into {spot}.",
        "It coughed twice and fell into {number} pieces.",
        "Nothing happened. Then one small wheel rolled away down the hill.",
        "There was a bang, and it rained feathers for an hour.",
    ),
    (
        "{a} [sat on the grass|looked at {his} feet] and said nothing[ at all|].",
        '"{cry}," said {a}.',
        "Somebody clapped, and then stopped.",
        "",
    ),
    (
        '"It makes a very good [table|henhouse|bench|swing]," said {b} kindly.',
        "But {b} turned the biggest part upside down, and it was the best [bathtub|slide|cupboard] anyone had seen.",
        "That evening {b} found a {thing} under it, and that was just the part that had been missing.",
    ),
    (
        "They had supper beside it, and the stars came out to look.",
        '{a} smiled a little. "I have another plan," {he} said.',
        "{a} has built {number} more since then, all on purpose.",
        "",
    ),
)

GARDEN: Plot = (
    (
        "{a} planted a {thing} in the garden[ and waited|, just to see|].",
        "{when}, {a} found a seed as big as {his} nose, and {he} planted it by {spot}.",
        "In a garden no wider than a door, {a} planted a single bean.",
    ),
    (
        "{he} watered it with [tea|milk|rain from a thimble] and read to it in the evening.",
        "{he} sang to it every day, mostly songs about potatoes.",
        '"Nothing will come of it," said {b}, leaning on the gate.',
        "It rained for {number} days. {a} held an umbrella over it all the same.",
        "",
    ),
    (
        "One morning there was a leaf. The next morning there were {number}.",
        "First came a stalk, as thin as a hair. Then came a bud.",
        "For a long time nothing happened. Then everything happened at once.",
    ),
    (
        "It grew past the window and past the chimney, and it tickled a passing cloud.",
        "When it opened, it was {colour} on one side and {colour2} on the other, and it smelled of {treats}.",
        "On the very top hung a {goods}, quite ripe.",
        "And when the wind blew, it [hummed|giggled|sneezed].",
    ),
    (
        "{b} came to look, and stayed for tea.",
        '"I did not expect that," said {b}, taking off {bhis} hat.',
        "The neighbours stood in a row and said nothing, with their mouths open.",
        "",
    ),
    (
        "{a} cut it into {number} parts and gave one to every house.",
        "{a} tied a bench to it, and from there they could see the sea.",
        "{a} kept one seed for next year, in the {hiding}.",
        "In autumn it lay down and slept, and {a} put a blanket over it.",
    ),
)

QUARREL: Plot = (
    (
        "{a} and {b} had one {goods} between them[, and that was the trouble|].",
        "{when}, {a} and {b} saw the same {thing} at the same time.",
        "{a} and {b} had been friends for years, and then they both wanted the last of the {treats}.",
    ),
    (
        '"It is mine," said {a}. "It is mine," said {b}.',
        '"I saw it first," said {a}. "I saw it better," said {b}.',
        "{a} pulled, and {b} pulled. Neither of them let go, not even to sneeze.",
    ),
    (
        "They stopped talking. They even stopped [waving|humming].",
        "{b} drew a line down the middle of the [road|kitchen|garden], and {a} sat down on the other side.",
        "All day they sat back to back and looked at nothing.",
    ),
    (
        "[By evening|After a while|On the third day] it was very [dull|quiet|lonely].",
        "Then it began to rain on both of them.",
        "Even the clock on the wall sounded cross.",
        "",
    ),
    (
        '"Are you still angry?" asked {a}. "I forgot to be," said {b}.',
        "{a} coughed. {b} coughed too. That was how it ended.",
        "{b} told a joke to the wall, and {a} laughed before {he} could stop.",
    ),
    (
        "They had soup out of one bowl, with two spoons.",
        "After that they took turns: {b} on Mondays, {a} on Tuesdays, and nobody on Sundays.",
        "They gave up arguing and went to {spot} to look at the boats.",
        '"You have it," said {a}. "No, you have it," said {b}, and they nearly began again.',
    ),
)

SEWING: Plot = (
    (
        "The only coat that {a} had was {number} years old and full of holes.",
        "{when}, the wind took the {colour} hat of {a} and threw it over {spot}.",
        "{a} tore {his} best trousers on a nail, right before the dance.",
    ),
    (
        "{he} had no needle and no thread.",
        '"I cannot go out like this," {he} said to the teacup.',
        "{he} stayed indoors all day and talked to {his} {noun}.",
        "",
    ),
    (
        "{b} pulled a thread from the curtain and began to sew.",
        "{b} came up the path with a basket of rags, {colour} ones and {colour2} ones.",
        "Then {b} knocked. {bhe} had brought a {goods}, and {bhe} knew what to do with it.",
    ),
    (
        "They cut and pinned and hummed until the lamp went out.",
        "Stitch by stitch it grew, and a moth watched from the wall.",
        "It took all night and {number} cups of tea.",
        "",
    ),
    (
        "When it was done, there was a pocket on the back and a sleeve too many.",
        "In the end it had a {colour} patch in the shape of a fish.",
        "It was not straight, and it was not square, but it was warm.",
    ),
    (
        '"Nobody else has one like it," said {b}. That was true.',
        "{a} wore it to {spot}, and {number} people asked where {he} had bought it.",
        "{a} turned round {number} times in front of the mirror and [bowed|blushed|grinned].",
    ),
    (
        "The extra piece they gave to a scarecrow, who had been cold for years.",
        "Now {b} wants one too.",
        "",
    ),
)

HOME_PLOTS: tuple[Plot, ...] = (LOST, SOUP, MACHINE, GARDEN, QUARREL, SEWING)
