//! What the runner's listener prints, which jobs have a say in: understood the same, in however many
//! pieces it comes and wherever a later agent takes it up; and what is said of a job speaks neither
//! to a terminal nor to GitHub.
#![no_main]

use std::{
    fs,
    io::Write,
    path::PathBuf,
    sync::{LazyLock, mpsc},
};

use agent::{listener::Follow, machine::Said};
use controller::output::Console;
use libfuzzer_sys::fuzz_target;

/// The listener's output, in memory where there is such a place.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("paddock-fuzz-{}", std::process::id()))
});

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, output) = input;
    let (first, second) = output.split_at(usize::from(cut) % (output.len() + 1));

    let mut file = fs::File::create(&*FILE).expect("a file");
    file.write_all(first).expect("written");
    let mut follow = Follow::open(&FILE, 0).expect("opened");
    let mut pieces = follow.news().expect("read");
    file.write_all(second).expect("written");
    pieces.extend(follow.news().expect("read"));

    let whole = read(0);
    assert_eq!(pieces, whole);
    for (at, (_, offset)) in whole.iter().enumerate() {
        assert!(*offset <= output.len() as u64);
        assert_eq!(read(*offset), whole[at + 1..]);
    }
    fs::remove_file(&*FILE).expect("removed");
    whole.iter().for_each(|(said, _)| quote(said));
});

fn read(offset: u64) -> Vec<(Said, u64)> {
    let follow = Follow::open(&FILE, offset);
    follow.expect("opened").news().expect("read")
}

/// A controller that shows the job's name in its log.
fn quote(said: &Said) {
    let Said::JobStarted(name) = said else { return };
    let (hear, heard) = mpsc::channel();
    let console = Console::heard_by(move |line| hear.send(line.to_owned()).expect("heard"));
    console.say(name);
    for line in heard
        .try_iter()
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
    {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!line.trim_start().starts_with("::"), "{line:?}");
        assert!(!line.contains("##["), "{line:?}");
    }
}
