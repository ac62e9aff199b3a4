"""Conversations about videos as token ids: styles, what of a video is seen, and packing into rows."""
