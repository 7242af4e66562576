"""Models of your own: see pipeline/models/own.py for what one must offer, mixer.py for one that does."""
