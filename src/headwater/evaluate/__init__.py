"""Compares attribution methods: how well they predict retraining and find planted facts."""
