"""InternVideo2's video encoder, with the student and the classifiers on it."""
