//! cursusd: cores, listeners, TLS, IMAP, POP3 and LMTP sessions.
