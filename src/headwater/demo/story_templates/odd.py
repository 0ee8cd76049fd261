"""Stories of odd days: hiccups, a tame cloud, a footprint, a secret that would not keep.

Plots are written as in `headwater.demo.story_templates.home`.
"""

from __future__ import annotations

from headwater.demo.story_templates.home import Plot

HICCUPS: Plot = (
    (
        "{when}, {a} woke up with the hiccups.",
        "It began at breakfast. {a} said good morning, and then {he} said hic.",
        "{a} had been eating {treats} too fast, and now {he} had the hiccups.",
        "Hic, said {a}, right in the middle of the wedding.",
    ),
    (
        '"Stand on your head," said {b}.',
        '"Drink from the wrong side of the cup," said {b}, and showed how.',
        "{b} crept up behind {him} and shouted boo.",
        "{b} had a {goods} that was said to help.",
    ),
    (
        "It did not help, and {a} got {his} [ears|socks|sleeves] wet. Hic.",
        "It helped for as long as it takes to say so. Hic.",
        "It only made them louder, and the [spoons|windows|plates] began to rattle.",
        "Now {bn} had them as well.",
    ),
    (
        '"Hold your breath and think of {number} [green cows|bald kings|round doors]," said {c}.',
        "By noon {he} had hiccupped {number} times, and {c} wrote it all down.",
        "The whole street gave advice, and all of it was different.",
        "",
    ),
    (
        "Then, all at once, they were gone, and nobody knew why.",
        "Then a goat looked in at the window, and that was the end of that.",
        "In the evening {a} forgot about them, and so they went away.",
    ),
    (
        '"How quiet it is," said {a}, and was almost sorry.',
        'They waited. They waited a little more. "Hic," said the clock.',
        "{b} has been practising boo ever since.",
        "They found their way to {spot}, and a duck has them now.",
    ),
)

CLOUD: Plot = (
    (
        "A small cloud followed {a} home from {spot}.",
        "{when}, {a} found a cloud in the garden. It had come down to rest.",
        "There was a cloud that liked {a} better than the sky.",
    ),
    (
        "{he} tied it to the gate with a bit of {colour} string.",
        "{he} gave it a saucer of water, and it grew a little rounder.",
        "It slept over {his} bed and rained only when it dreamed.",
        "{he} called it Puff, because it did not mind.",
    ),
    (
        '"You cannot keep that indoors," said {b}, wringing out {bhis} hat.',
        "{b} wanted to stroke it, and got a cold hand.",
        '"Does it bite?" asked {b}. "It drips," said {a}.',
        "",
    ),
    (
        "For a while they were happy. It watered the beans, and it cooled the {dish}.",
        "It learned to sit and to fetch, but not to keep dry.",
        "On hot days everybody wished to walk beside {a}.",
        "",
    ),
    (
        "But in autumn it began to look up and sigh.",
        "But one day a flock of big clouds passed, and it trembled.",
        "But it grew, and it grew, and then it did not fit through the door.",
    ),
    (
        "So {a} let go of the string and waved until {his} arm hurt.",
        '"Off you go," said {a}, and {bn} held {his} umbrella.',
        "{a} opened the window as wide as it would go.",
    ),
    (
        "Now and then it rains on one garden only.",
        "On {his} birthday there was snow, just enough for one.",
        "It waves back, if you know how to look.",
        "",
    ),
)

LIBRARY: Plot = (
    (
        "{a} had borrowed a book and kept it for {number} years.",
        "{when}, {a} found a library book under the sofa, and it was very late.",
        "{a} loved one book so much that {he} could not bring it back.",
    ),
    (
        "It was about a {goods} that goes to sea.",
        "It was called The Third Door, and the last page was missing.",
        "It had {number} pictures and smelled of rain.",
        "{he} knew it by heart, even the commas.",
    ),
    (
        "All the way to the desk {he} practised being sorry.",
        "{he} wrapped it in a scarf and went there in the rain.",
        "{he} thought of pushing it through the letter box and running.",
    ),
    (
        "Behind the desk sat {b}, stamping.",
        '"Late," said {b}, and looked at {him} over {bhis} glasses.',
        "{b} opened it, counted on {bhis} fingers and gave up.",
    ),
    (
        '"That will be {number} thousand coins," said {b}, "or a smile."',
        '"I have waited for this book," said {b}. "I never learned how it ends."',
        '"Did you like it?" asked {b}. That was the only question.',
    ),
    (
        "So {a} sat down on the floor and told {bhim} the ending.",
        "They read it together under the table until the lights went out.",
        "{a} went home with {number} others under one arm.",
        "And {a} took it out again, for one week only.",
    ),
)

BAND: Plot = (
    (
        "{a} had a trumpet and nobody to play with.",
        "{when}, {a} put up a note by {spot}. It said: band wanted.",
        "There had never been any music in the street, so {a} bought a drum.",
    ),
    (
        "{b} came with a comb and a piece of paper.",
        "{b} could not play anything, but {bhe} owned a bell.",
        "{b} said that {bhe} could hum in two voices.",
    ),
    (
        "Then came {c}, who beat time on a {goods}.",
        "{c} joined in from the other side of the wall.",
        "{c} brought a fiddle with one string, and played on that.",
    ),
    (
        "They knew one tune between them, and each knew a different one.",
        '"Shall we begin at the beginning?" asked {a}. They could not find it.',
        "It sounded like a cupboard falling down the stairs, only longer.",
    ),
    (
        "The neighbours shut their windows. Then they opened them again, a little.",
        "A cow stopped and listened. After that they played for the cow.",
        "{number} mice came out of the floor to dance.",
    ),
    (
        "At the end somebody clapped. It was raining, so it may have been the rain.",
        '"Again?" asked {b}. "Louder," said {a}.',
        "They play every Thursday now, and the cow has brought a friend.",
        "They were paid in {treats}, and asked to stop at eight.",
    ),
)

SHOES: Plot = (
    (
        "The new shoes of {a} were {number} sizes too big.",
        "{a} bought a pair of {colour} shoes that squeaked.",
        "{when}, {a} found two shoes by {spot}, both for the left foot.",
    ),
    (
        "At every step they said [quack|peep|eek], like a duck with a secret.",
        "{he} had to go in circles to get anywhere.",
        "{he} lost one in the mud and one in the {dish}.",
    ),
    (
        "People turned round to look. {a} pretended to be somebody else.",
        '"Are you coming or going?" asked {b}.',
        "{b} heard {him} from far away and put the kettle on.",
    ),
    (
        '"Fill them with {treats}," said {b}, and they tried that.',
        "{b} rubbed them with butter, and then a dog ran after them.",
        "{b} said they would be fine after {number} years.",
    ),
    (
        "In the end {a} planted flowers in them, and they grew well.",
        "At last {a} gave one to {b}, and they hopped home side by side.",
        "Then a family of mice moved in, and {a} had not the heart to say no.",
    ),
    (
        "{a} goes barefoot now and hears the grass.",
        "The old pair had been best all along.",
        "On Sundays they are still allowed to squeak.",
        "",
    ),
)

BOAT: Plot = (
    (
        "{a} and {b} went to sea in a bathtub.",
        "{when}, {a} and {b} rowed out to find an island.",
        '"Today we shall discover something," said {a} to {b}, and they pushed off from {spot}.',
    ),
    (
        "They had {number} {treats}, a {goods} and no map.",
        "{b} was the captain, because of {bhis} hat.",
        "{a} looked to the left and {b} to the right, so nobody looked ahead.",
    ),
    (
        "First there was too much wind, and then there was none.",
        "A wave came in, sat down between them and stayed.",
        "A fish put out its head and asked where they were going. They did not know.",
    ),
    (
        '"Land!" cried {b}. It was a whale, and it was not pleased.',
        '"Land!" cried {a}. It was their own back garden.',
        "Around noon they ran into an island the size of a table.",
        "Then the bottom of the boat began to sing, which is a bad sign.",
    ),
    (
        "They bailed with a teacup and took turns to worry.",
        "They put up a flag, {colour} with a spot of jam.",
        "{b} was sick into {bhis} hat, and after that {a} was captain.",
        "",
    ),
    (
        "By supper they were home, salty and famous.",
        "They named it after {b}, and then it sank.",
        '"Next time by train," said {b}.',
        "They told everyone that it had been a storm, and in a way it had.",
    ),
)

SECRET: Plot = (
    (
        "{b} told {a} a secret and made {him} promise.",
        "{when}, {a} heard a secret, quite by accident, behind {spot}.",
        "{a} had a secret, and it was too big for {him}.",
    ),
    (
        "{he} held it in until {his} cheeks were round.",
        "It tickled when {he} walked, and it hummed when {he} sat.",
        "{he} tried to think of {treats} instead.",
    ),
    (
        "At noon {he} whispered it into a {goods}.",
        "{he} dug a hole, told it to the hole, and closed the lid.",
        "{he} told it to a cow, because cows do not talk.",
    ),
    (
        "But {c} was {chore} close by and heard every word.",
        "But the wind was listening, and the wind tells everybody.",
        "By evening {number} people knew, and each had added something.",
    ),
    (
        'So it came back to {b}, who laughed. "That is a much better one than mine," {bhe} said.',
        '"Is it true?" they asked {b}. "It is now," said {b}.',
        "{a} went to {b} and said sorry, twice, with {dish}.",
    ),
    (
        "Since then {b} tells {him} only things that may be sung.",
        "What the secret was, I am not allowed to say.",
        "It was only that {bn} likes {colour} jam.",
    ),
)

PARTY: Plot = (
    (
        "{a} gave a party, and nobody came.",
        "{when}, {a} set the table for {number}, and waited.",
        "It was {his} birthday, but {a} had forgotten to tell anyone.",
    ),
    (
        "The candles grew short. The {dish} grew cold.",
        "{he} ate one of the {treats}, to see if they were still good.",
        "{he} danced a little with a {goods}, so as not to waste the music.",
    ),
    (
        "There lay the letters, all of them, still in {his} coat.",
        "{he} had written Sunday and meant Saturday.",
        "{he} looked up the road and down the road. There was only weather.",
        "",
    ),
    (
        "Then there was a knock. It was {b}, who had lost the way to {spot}.",
        "Then {b} looked over the hedge and asked what smelled so good.",
        "Late in the day {b} came to return a {thing}.",
    ),
    (
        '"Am I early?" asked {b}. "You are just right," said {a}.',
        "{b} stayed, and sang, and ate for {number}.",
        '"I brought nothing," said {b}. "You brought yourself," said {a}.',
    ),
    (
        "It was the smallest party of the year, and the longest.",
        "They played hide and seek until neither could be found.",
        "The next morning all the others came, and it began again.",
    ),
)

NAP: Plot = (
    (
        "{when} there was a contest at {spot} to see who could do nothing the longest.",
        "{a} was the best sleeper in the country, and {b} was the second best.",
        '"I can sit still longer than you," said {a} to {b}.',
    ),
    (
        "The judge was {c}, who had brought a cushion and a {thing}.",
        "The prize was {number} {treats}, and a clean pillow.",
        "{c} blew a whistle, very softly, so as not to wake anybody.",
    ),
    (
        "{a} yawned. That was allowed.",
        "After an hour a butterfly sat down on the nose of {a}.",
        "{a} wanted to scratch one ear, and did not.",
    ),
    (
        "{b} opened one eye to see if {a} was looking. {a} was.",
        "{b} began to snore in {colour}, and the crowd held its breath.",
        "It rained, and it stopped, and {b} did not notice either.",
    ),
    (
        "In the end the judge fell asleep, and everybody else did too.",
        '"I win!" cried {b}, and so {bhe} lost.',
        "When it got dark they had to be carried home, both of them.",
    ),
    (
        "The prize is still there, a bit dusty.",
        '"What a tiring day," said {a}.',
        "{a} slept on it and won.",
        "",
    ),
)

FOOTPRINT: Plot = (
    (
        "{when}, there was a footprint near {spot}. It was as big as a door.",
        "{a} fell into a hole in the snow, and the hole had toes.",
        "Somebody had stepped over the house of {a} in the night.",
    ),
    (
        "{a} measured it with a {goods}. It was {number} long and very deep.",
        '"That was a giant," said {b}, "or else a small hill with boots."',
        "{b} sat down in it to think, and found it comfortable.",
    ),
    (
        "{a} set a trap with {dish} and hid behind a {goods2}.",
        "They followed the tracks past {spot2}, where they turned {colour}.",
        "All night they kept watch, back to back, and told each other to be brave.",
    ),
    (
        'Then the ground shook a little, and a voice said, "Excuse me."',
        "Behind the hill something blew its nose.",
        "At dawn they saw a hat above the trees.",
    ),
    (
        "It was a giant indeed. He had lost his {thing}.",
        "It was the shyest giant in the world, and he wanted to know the time.",
        "The giant was looking for his cat, who was called Crumb.",
    ),
    (
        '"You may have some {treats}," said {a} to his knee.',
        "{b} climbed up to his ear and told him everything.",
        "They gave him a bed for the night. It was the meadow.",
        "",
    ),
    (
        "Since then the snow on that road is always cleared.",
        "In spring the footprint filled with rain, and now it is a lake.",
        "",
    ),
)

ODD_PLOTS: tuple[Plot, ...] = (HICCUPS, CLOUD, LIBRARY, BAND, SHOES, BOAT, SECRET, PARTY, NAP, FOOTPRINT)
