"""The present: what to do next about what has happened.

Fetches, decides, hands over. What has happened is the store's; what a person asks is the cli's.

- core: pure decisions; no clock, no sockets, no logging
- wire: protocols without sockets, octets in and happenings out
- adapters: the only sockets
- attachment_reader: reads messages for the files in them, in processes of its own
- ports: what core and loops need of the outside, in our own words
- settings: the configuration as frozen values; secrets: where passwords come from
- intake: the one door in; acceptance: what clients submit
- journal: group commit; outage: a store that is down, in the log
- hop: a next hop's standing
- notices: who is told of what
- settler: what a step came to, appended until the store takes it
- lives: the messages in our hands; due: what is claimed from the agenda
- attempts: one attempt after the other; worker: a message's way from step to step
- limit, recognition, removing: what a poll need not retrieve, has already, may delete
- mailbox_record: a mailbox's own stream
- poll, fetch: one mailbox's session; all mailboxes in their time
- presence: who is alive
- wiring: settings become policy, next hops, mailboxes
- service: all of it put together, signals, draining
"""
