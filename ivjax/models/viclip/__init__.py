"""ViCLIP's towers for clips and captions."""
