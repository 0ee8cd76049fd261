"""Training a language model by a recipe, and retraining it on part of its corpus."""
