"""Parameter-free maths: arrays in, arrays out."""
