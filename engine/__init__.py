"""The present: what to do next about what has happened.

Fetches, decides, hands over. What has happened is the store's; what a person asks is the cli's.

- core: pure decisions; no clock, no sockets, no logging
- wire: protocols without sockets, octets in and happenings out
- adapters: the only sockets
- ports: what core and loops need of the outside, in our own words
- settings: the configuration as frozen values; secrets: where passwords come from
- intake: the one door in
- journal: group commit
- poll, fetch: one mailbox's session; all mailboxes in their time
- hop, worker: a next hop's standing; a message's way from step to step
- presence: who is alive
- service: all of it put together, signals, draining
"""
