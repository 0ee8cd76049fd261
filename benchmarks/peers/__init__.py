"""The same job on Headwater and on its peers, side by side in one run: `make bench-peers`."""
