"""Protocols without sockets: octets in, happenings out. Imports nothing of ours."""
