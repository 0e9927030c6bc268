"""Reads a message for the files in it, in a process of its own, with no more memory and time than it is given.

What goes in are octets, what comes out is a short answer. Everything in a message may be meant to mislead: it is read twice,
as the MIME parser does and by looking for whatever is like a part, and every name that a part has counts.

- fields: the names, types and content of one part
- parts: the parts of a message, read both ways
- zips, uu: names in archives, files within a text
- reading: all of it, weighed against the rules
- frames: what goes over the pipe; __main__: the process
"""
