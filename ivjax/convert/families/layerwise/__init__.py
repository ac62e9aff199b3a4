"""What models make, layer by layer, under the names and in the layout of the originals' fixtures."""
