//! Man pages and shell completions of both programs, from their own command lines.
//!
//! ```text
//!   man/<program>[-<command>].1   bash/<program>   zsh/_<program>   fish/<program>.fish
//! ```

use std::{fs, io, path::Path};

use clap::Command;
use clap_complete::{Shell, generate_to};

/// Both programs, under the names that people call.
fn programs() -> [Command; 2] {
    [
        controller::inputs::Inputs::program(),
        agent::cli::command().name("paddock-agent"),
    ]
}

/// Writes all of it into a folder, which is made if it is not there.
///
/// # Errors
///
/// When something cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let within = |name: &str| -> io::Result<_> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let man = within("man")?;
    for program in programs() {
        let name = program.get_name().to_owned();
        for (shell, folder) in [
            (Shell::Bash, "bash"),
            (Shell::Zsh, "zsh"),
            (Shell::Fish, "fish"),
        ] {
            let folder = within(folder)?;
            let file = generate_to(shell, &mut program.clone(), &name, &folder)?;
            if shell == Shell::Bash {
                // Where bash looks, files are called as the program is.
                fs::rename(file, folder.join(&name))?;
            }
        }
        clap_mangen::generate_to(program.disable_help_subcommand(true), &man)?;
    }
    for page in fs::read_dir(man)? {
        let page = page?.path();
        let text = fs::read_to_string(&page)?;
        fs::write(page, sections(&text))?;
    }
    Ok(())
}

/// A page whose part behind the options, which clap calls "extra", has the sections that manuals have.
/// Their lines stay as they are: nobody copies an example that was broken anew, and hyphenated.
fn sections(page: &str) -> String {
    let Some((before, extra)) = page.split_once(".SH EXTRA\n") else {
        return page.to_owned();
    };
    let (extra, after) = match extra.find("\n.SH ") {
        Some(end) => extra.split_at(end),
        None => (extra.trim_end(), "\n"),
    };
    let mut text = before.to_owned();
    for paragraph in extra.split("\n\n") {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let section = match first {
            "Examples:" => ["EXAMPLES\n.nf\n", rest, "\n.fi\n"],
            "Exit codes:" => ["EXIT STATUS\n.nf\n", rest, "\n.fi\n"],
            _ => ["NOTES\n", paragraph, "\n"],
        };
        text += ".SH ";
        text += &section.concat();
    }
    text + after.trim_start_matches('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn both_programs_have_pages_and_completions() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let of = |name: &str| names(&folder.path().join(name));
        assert_eq!(of("bash"), ["controller", "paddock-agent"]);
        assert_eq!(of("zsh"), ["_controller", "_paddock-agent"]);
        assert_eq!(of("fish"), ["controller.fish", "paddock-agent.fish"]);
        let pages = of("man");
        for page in [
            "controller.1",
            "controller-refresh.1",
            "paddock-agent.1",
            "paddock-agent-drain.1",
        ] {
            assert!(pages.iter().any(|name| name == page), "{pages:?}");
        }
        let page = fs::read_to_string(folder.path().join("man/controller-provision.1")).unwrap();
        assert!(page.contains(r"\-\-instance\-count"), "{page}");
        let examples = ".SH EXAMPLES\n.nf\n  controller provision ";
        assert!(page.contains(examples), "{page}");
        assert!(page.contains(".SH NOTES\nIt takes the run from"), "{page}");
        let page = fs::read_to_string(folder.path().join("man/paddock-agent.1")).unwrap();
        assert!(page.contains("\n.fi\n.SH EXAMPLES\n"), "{page}");
        assert!(page.contains(".SH EXIT STATUS\n.nf\n  0  well\n"), "{page}");
        assert!(
            !page.contains("EXTRA") && page.contains(".fi\n.SH VERSION\n"),
            "{page}"
        );
    }
}
