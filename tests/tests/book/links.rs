//! The book can be built, and its links lead somewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use tests::tools::Tools;

use crate::pages::{Page, pages, root};

/// Files of the repository, as the book names them.
const REPOSITORY: &str = "https://github.com/paddock-runners/paddock/";

/// What follows `before` up to `end`, each time.
fn between<'a>(text: &'a str, before: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    let rest = text.split(before).skip(1);
    rest.map(move |rest| rest.split(end).next().unwrap_or_default())
}

/// `a/../b` → `b`
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// A page as mdBook made it.
struct Html {
    links: BTreeSet<String>,
    places: BTreeSet<String>,
}

fn html_in(folder: &Path) -> BTreeMap<PathBuf, Html> {
    let files = fs::read_dir(folder).expect("the book").map(|entry| {
        let path = entry.expect("an entry").path();
        PathBuf::from(path.file_name().expect("a name"))
    });
    let pages = files.filter(|name| name.extension().is_some_and(|end| end == "html"));
    pages
        // Found nowhere, so read from nowhere.
        .filter(|name| name != Path::new("404.html"))
        .map(|name| {
            let text = fs::read_to_string(folder.join(&name)).expect("readable");
            let words = |before| between(&text, before, '"').map(str::to_owned).collect();
            let html = Html {
                links: words(" href=\""),
                places: words(" id=\""),
            };
            (name, html)
        })
        .collect()
}

#[test]
fn the_book_is_built_and_its_links_lead_somewhere() {
    let tools = Tools::packaging().expect("the tools");
    let folder = tempfile::tempdir().expect("a folder");
    let built = Command::new(tools.program("mdbook"))
        .arg("build")
        .arg(root().join("docs"))
        .arg("--dest-dir")
        .arg(folder.path())
        .output()
        .expect("mdbook runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    assert!(!said.contains("WARN"), "{said}");

    let html = html_in(folder.path());
    assert!(html.len() > 10, "{} pages", html.len());
    for (name, page) in &html {
        for link in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() {
                name
            } else {
                Path::new(file)
            };
            assert!(
                folder.path().join(file).exists(),
                "{}: {link}",
                name.display()
            );
            if let Some(target) = html.get(file) {
                let there = place.is_empty() || target.places.contains(place);
                assert!(there, "{}: {link}", name.display());
            }
        }
    }
    for page in pages() {
        let Ok(name) = page.file.strip_prefix("docs") else {
            continue;
        };
        let in_book = html.contains_key(&name.with_extension("html"));
        let contents = name == Path::new("SUMMARY.md");
        assert!(in_book || contents, "SUMMARY.md lacks {}", name.display());
    }
}

/// A heading's place, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_place(page: &Page, place: &str) -> bool {
    let headings = page.text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| slug(line.trim_start_matches('#')))
        .any(|slug| slug == place)
}

#[test]
fn links_between_files_of_the_repository_lead_somewhere() {
    let pages = pages();
    let check = |page: &Page, link: &str, target: PathBuf, place: &str| {
        let from = page.file.display();
        assert!(root().join(&target).exists(), "{from}: {link}");
        let target = pages.iter().find(|page| page.file == target);
        let there = place.is_empty() || target.is_some_and(|target| has_place(target, place));
        assert!(there, "{from}: {link}");
    };
    let mut checked = 0;
    for page in &pages {
        let folder = page.file.parent().expect("a folder");
        for link in between(&page.text, "](", ')') {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            if let Some(file) = file.strip_prefix(REPOSITORY) {
                let (_, file) = file
                    .split_once("/main/")
                    .unwrap_or_else(|| panic!("{link}"));
                check(page, link, PathBuf::from(file), place);
            } else if file.is_empty() {
                check(page, link, page.file.clone(), place);
            } else if !file.contains("://") {
                check(page, link, plain(&folder.join(file)), place);
            } else {
                continue;
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} links");
}
