"""The only sockets of the engine: POP3 mailboxes and SMTP next hops behind the ports."""
