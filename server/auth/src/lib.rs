//! Accounts: user file, password schemes, SASL mechanisms, login memory and limits.
