"""What the acceptance tests share: servers in directories of their own, wire clients, mail.

Nothing in here decides whether a test passes; it starts programs, speaks protocols
and keeps every wait bounded.
"""
