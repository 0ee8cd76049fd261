"""How well a method of attribution foretells what retraining does, and finds what was planted."""
