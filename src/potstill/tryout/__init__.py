"""A page on this machine where one gives a sample and sees teacher and students answer.

    subject    what a run is about: its kind of samples, its classes, its test samples
    reading    from what the page sends (a picture, a text, a sound, a row) to what models take
    answering  the models, one after the other, each with its time, in words
    room       both together: a question in, all answers out
    server     the page over HTTP, on the loopback alone

Nothing here knows recipes or trains anything.
"""
