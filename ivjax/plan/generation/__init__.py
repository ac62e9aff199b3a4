"""Plans of generation: what a dialogue model needs to answer about a video, and how long it takes."""
