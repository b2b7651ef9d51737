"""Other ways to magnify, to compare with."""
