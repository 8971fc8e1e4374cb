//! The `callgate` program. Everything is in the library; see its front page.

fn main() -> std::process::ExitCode {
    callgate::cli::main()
}
