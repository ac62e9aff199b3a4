"""The demo corpus: small videos drawn by a program, with annotations in the manner of InternVid.

A corpus holds `videos/<YoutubeID>.mp4` and two annotation files, one row of JSON per clip:
`annotations.jsonl` to train on and `held_out.jsonl` to test on. A video has a few clips back to back,
each with a camera cut at its start and its end, and now and then a still stretch between two clips
that no row speaks of. About a third of the videos have a sound track, whose tones mean nothing. With the
sounds of events all have one: each motion has a voice of its own, heard while its event lasts, and rows
have `Audio_Captions`, which tell of the sounds alone. The pictures are the same.

In a clip one to three groups of coloured shapes move over a muted background, one after the other or
together: 8 colours, 6 shapes, 10 motions, three sizes and speeds, up to four shapes of a group, 5
backgrounds, 3 kinds of tone. Clips last 2 to 20 s, 85 % of them less than 10 s.

A row has the columns `YoutubeID`, `Start_timestamp`, `End_timestamp`, `Caption`, `Aesthetic_Score` (grows
with the contrast of shapes and background), `UMT_Score` (how much of what is seen the caption says),
`Attributes` (the truth, as words), and `Captions` where there are several. The captions of 5 % of the
training rows are about something else: they score 0.35 at most, all others 0.42 or more.

An eighth of all combinations of colour, shape and motion never occur in training. The held-out clips
show nothing else, so they measure what was learnt about each part. Sources are pure functions of the
arguments: the same seed gives the same bytes, whatever the number of processes.
"""
