"""Other systems behind the same detector, to know what a search is worth."""
