//! cursus: the operator's command.
