"""Tools over a built corpus: is it whole, what does it hold, how does it look."""
