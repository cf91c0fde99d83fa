//! Whole-server load generator for any IMAP, POP3 or LMTP server.
