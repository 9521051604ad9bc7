//! The `controller` program: see the library for what it does.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    controller::run::log_to_stderr();
    let args = std::env::args_os().collect();
    controller::run::run(args, std::env::var_os("INPUT_MODE"))
        .await
        .into()
}
