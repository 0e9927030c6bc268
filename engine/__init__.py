"""The present: what to do next about what has happened.

Fetches, decides, hands over. What has happened is the store's; what a person asks is the cli's.

- core: pure decisions; no clock, no sockets, no logging
- wire: protocols without sockets, octets in and happenings out
- adapters: the only sockets
- attachment_reader: reads messages for the files in them, in processes of its own
- ports: what core and loops need of the outside, in our own words
- settings: the configuration as frozen values; secrets: where passwords come from
- opening: what opens a message's stream; intake: the one door in; acceptance: what clients submitted
- porter: the process that listens; listening: how it is started and watched; desk: what it hands over
- scanner_standing, scanner_post: a scanner's standing; who asks it, and whom to blame; scanning: verdicts as events
- asking: what is asked and said; asker: the process that asks; elsewhere: how it is started and watched
- free_space: room for new mail; precedence: who comes first, mail that comes in or mail that goes out
- journal: group commit; outage: a store that is down, in the log
- hop: a next hop's standing
- notices: who is told of what; digest: of held spam; telling: the postmaster, once, of a change of state
- trouble_watch, scanner_watch: what is in trouble; daily: the daily report; late_senders: whose mail waits for a scanner
- postmaster: these together
- settler: what a step came to, appended until the store takes it
- lives: the messages in our hands; due: what is claimed from the agenda
- attempts: one attempt after the other; worker: a message's way from step to step
- limit, recognition, removing: what a poll need not retrieve, has already, may delete
- mailbox_record: a mailbox's own stream
- poll, fetch: one mailbox's session; all mailboxes in their time
- presence: who is alive
- loops, log_lines: the event loop and the log of each process
- wiring: settings become policy, next hops, mailboxes
- gateway: all of it put together; service: signs of life, signals, one round or many
"""
