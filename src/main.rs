//! The `ragstone` binary.

fn main() -> std::process::ExitCode {
    ragstone::cli::run()
}
