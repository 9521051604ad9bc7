//! The pages, and the blocks of code in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository")
}

/// Something to read.
pub(crate) struct Page {
    /// Its file, from the repository's root.
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

/// The book's pages, and what else there is to read.
pub(crate) fn pages() -> Vec<Page> {
    let mut files: Vec<PathBuf> = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "packaging/README.md",
    ]
    .map(PathBuf::from)
    .into();
    let book = fs::read_dir(root().join("docs")).expect("the book");
    let names = book.map(|entry| entry.expect("an entry").file_name());
    let pages = names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"));
    files.extend(pages.map(|name| Path::new("docs").join(name)));
    files.sort();
    let page = |file: PathBuf| Page {
        text: fs::read_to_string(root().join(&file)).expect("readable"),
        file,
    };
    files.into_iter().map(page).collect()
}

/// A fenced block.
pub(crate) struct Block {
    /// Where it stands, for messages.
    pub(crate) place: String,
    pub(crate) text: String,
}

/// All blocks of this language.
pub(crate) fn blocks(language: &str) -> Vec<Block> {
    let mut found = Vec::new();
    for page in pages() {
        let mut lines = page.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(opened) = line.strip_prefix("```") else {
                continue;
            };
            let inside = lines.by_ref().map(|(_, line)| line);
            let text: String = inside
                .take_while(|line| *line != "```")
                .flat_map(|line| [line, "\n"])
                .collect();
            if opened == language {
                let place = format!("{}:{}", page.file.display(), number + 1);
                found.push(Block { place, text });
            }
        }
    }
    assert!(!found.is_empty(), "there is no block of {language}");
    found
}

/// A file as it is and as it should be; with `PADDOCK_UPDATE` it becomes that.
pub(crate) fn holds(file: &str, wanted: &str) {
    let path = root().join(file);
    if std::env::var_os("PADDOCK_UPDATE").is_some() {
        fs::write(path, wanted).expect("written");
        return;
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text == wanted,
        "{file} is not up to date: PADDOCK_UPDATE=1 cargo test --workspace --test book made_from"
    );
}
