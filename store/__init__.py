"""The past: what happened to every message, and nothing else.

Synchronous SQLAlchemy Core over SQLite or Postgres. The store remembers; it takes no decisions, opens no sockets but the
database's, and knows no asyncio.

- events, mailbox_events: every event, its facts and its personal facts
- codec: event to octets and back; upcasters
- chain: the hash over a stream
- life, recipient, mailbox_life: what the events of one stream add up to
- schema: the tables
- database: how a database is opened
- log: append and read
- contents: the octets of messages
- agenda: when to look at a stream again, and who holds its lease
- rows: what a message looks like in the read tables
- projections: the read tables, written with each append; told: what the postmaster was told last
- rebuild: the read tables made anew
- selection: which messages a filter means, and which index leads
- queries: questions about messages, mailboxes and next hops
- backup: a copy while the gateway runs, and back
- errors: what can go wrong, as a person should read it
"""
