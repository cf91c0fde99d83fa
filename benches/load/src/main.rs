//! Entry point of `cursus-load`; everything lives in the library, where tests reach it.
use std::process::ExitCode;

fn main() -> ExitCode {
    load::run()
}
