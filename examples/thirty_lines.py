"""From a corpus to a verified answer: python examples/thirty_lines.py"""

from pathlib import Path

from rich import print

from headwater import Run
from headwater.demo.build import Demo, build_model, build_world

demo = Demo(Path("runs/tiny"), stories=200, epochs=22)
world = build_world(demo)  # writes runs/tiny/world.jsonl, one {"id": …, "text": …} per line
build_model(demo, world)  # trains a small model on it in runs/tiny/model; half a minute, once

run = Run.create("runs/tiny", model="runs/tiny/model", corpus="runs/tiny/world.jsonl")
run.fit()  # fits the curvature (EK-FAC)
run.build_index()  # stores sketches, so that a question takes less than a second

fact = next(fact for fact in world.facts if fact.id == "fears-yilo")
answer = run.ask(fact.prompt, fact.completion, k=3)
print(answer)  # the stories that taught it, with shaded tokens

for example in answer.proponents:
    print(example.id, "states it" if example.id in fact.stories else "does not state it")

check = run.verify(answer, k=3, random=3)
print(check)  # for each story: the predicted change, and the change after a step on it
