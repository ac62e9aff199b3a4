"""What training does to frames: a crop that the decoder carries out, then changes of the pixels."""
