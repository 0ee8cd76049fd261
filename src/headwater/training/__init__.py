"""Training a language model by a written recipe, and training it again on less."""
