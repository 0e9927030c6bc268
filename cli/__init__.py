"""How a person asks: `mailgate COMMAND …`.

One module for each command or noun. Asks the store, starts the engine, decides nothing.

- start: the way in
- main: the frame, which commands there are, what an error looks like
- context: the configuration and the open store, exit codes
- words, times, filters: what a person may write
- render: tables, JSON lines, CSV
- story, outlook: events and what comes next, in words
- message, show, explain, log, queue, route, init: the commands that ask
- run, check, mailbox, db, demo: the commands that do
"""

import gc

# In new objects. What an import makes is no garbage, and to look for some at each 700 takes a tenth of a start.
gc.set_threshold(50_000)
