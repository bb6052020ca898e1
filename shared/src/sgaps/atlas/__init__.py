"""What a key knows by heart: whole pictures of its level, and where they were taken.

A level that was seen before need not be guessed from its samples: the state vector tells where the
eye is, so its picture is computed from those taken near by, and mixed into the rebuilt frame where
the samples bear it out.
"""
