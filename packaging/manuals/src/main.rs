//! `manuals FOLDER`: see the library.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("manuals: name the folder that takes them, such as target/manuals");
        return ExitCode::from(2);
    };
    match manuals::write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "manuals: cannot write {}: {error}",
                Path::new(&folder).display()
            );
            ExitCode::FAILURE
        }
    }
}
